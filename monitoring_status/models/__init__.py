from . import monitoring_status
