from . import cloud_platform, cloud_platform_page
