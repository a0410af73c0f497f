"""The songs of a client: ``anthem songs.install::main -c odoo.conf -d mydb``.

They can be played again, on a new database and on one that is in use.
"""

import anthem

from odoo.addons.cloud_platform import songs as cloud_platform


@anthem.log
def main(ctx):
    """Playing the installation"""
    setup_company(ctx)
    # the last one: it commits what it moves, and what came before
    cloud_platform.install_exoscale(ctx)


@anthem.log
def rehearse(ctx):
    """Telling what the installation would do"""
    cloud_platform.install(ctx, "exoscale", dry_run=True)


@anthem.log
def setup_company(ctx):
    """Setting up the company"""
    company = ctx.env.ref("base.main_company")
    if company.name != "Acme":
        company.name = "Acme"
