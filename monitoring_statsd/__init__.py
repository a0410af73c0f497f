# It puts the running environment into Odoo's configuration when it is imported, and
# --load ignores dependencies.
from odoo.addons import server_environment

from . import models
from .patches import post_load
