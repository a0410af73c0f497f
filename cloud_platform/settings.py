"""The variables of this addon. Those of sessions, of the object store and of statsd
belong to the addons that use them."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CloudPlatformSettings(BaseSettings):
    """Settings of the checks, read from the environment at each use."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    unsafe: bool = Field(
        default=False,
        validation_alias="ODOO_CLOUD_PLATFORM_UNSAFE",
        description="Skip the checks at start, with a warning. For repairs only.",
    )
    unstructured_bucket_name: bool = Field(
        default=False,
        validation_alias="AWS_BUCKETNAME_UNSTRUCTURED",
        description="Accept a bucket whose name is not <client>-odoo-<environment>. "
        "Only prod may write to a production bucket all the same.",
    )
    running_env: str | None = Field(
        default=None,
        validation_alias="RUNNING_ENV",
        description="Name of the running environment: prod, integration, test, dev or "
        "another folder of server_environment_files. running_env in odoo.conf takes "
        "precedence.",
    )
    odoo_stage: str | None = Field(
        default=None,
        validation_alias="ODOO_STAGE",
        description="Name of the running environment when RUNNING_ENV is not set.",
    )
