"""What is wrong with a configuration, and how it is told."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings


@dataclass(frozen=True)
class Fault:
    """One wrong setting. No field may hold a secret.

    :param subject: the variable or the system parameter
    :param problem: what is wrong with it
    :param remedy: what to do
    """

    subject: str
    problem: str
    remedy: str

    def __str__(self):
        return f"{self.subject}: {self.problem}. {self.remedy}."

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class CloudPlatformError(Exception):
    """The platform cannot do what it was asked for."""


class ConfigurationError(CloudPlatformError):
    """The configuration is wrong; the text tells all faults.

    :param faults: one or more
    """

    def __init__(self, faults: Iterable[Fault]):
        self.faults = tuple(faults)
        super().__init__(
            "\n".join(
                [
                    f"The configuration is wrong, {len(self.faults)} "
                    f"{'fault' if len(self.faults) == 1 else 'faults'}:",
                    *(f"- {fault}" for fault in self.faults),
                ]
            )
        )


def settings_faults(settings_class: type[BaseSettings]) -> list[Fault]:
    """Return a fault for each variable that a settings class cannot read."""
    try:
        settings_class()
    except ValidationError as error:
        return [
            _variable_fault(settings_class, details)
            for details in error.errors(include_url=False, include_context=False)
        ]
    return []


def variable_value(settings: BaseSettings, variable: str):
    """Return the value of a variable that is set, a secret in clear; else ``None``.

    By the variable's name, which is the interface between the addons.
    """
    for name, field in type(settings).model_fields.items():
        if field.validation_alias == variable and name in settings.model_fields_set:
            value = getattr(settings, name)
            return value.get_secret_value() if isinstance(value, SecretStr) else value
    return None


def _variable_fault(settings_class, details):
    # pydantic's location of a field with an alias is the alias: the variable's name
    variable = str(details["loc"][0]) if details["loc"] else settings_class.__name__
    if details["type"] == "missing":
        return Fault(variable, "is not set", "Set it")
    if _is_secret(settings_class, variable):
        return Fault(variable, details["msg"], "Correct its value")
    return Fault(variable, f"is {details['input']!r}: {details['msg']}", "Correct it")


def _is_secret(settings_class, variable):
    for name, field in settings_class.model_fields.items():
        if variable in (name, field.alias, field.validation_alias):
            return "Secret" in str(field.annotation)
    return True  # a rule across fields: its input could hold a secret
