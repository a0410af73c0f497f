"""Odoo's own tests of attachments, with attachments in S3.

They are written for the installation of ``base``, when this addon is not loaded yet:
here they run again on a loaded database.
"""

from odoo.addons.base.tests.test_ir_attachment import TestIrAttachment, TestPermissions
from odoo.tests import tagged

from ..configuration import LOCATION

#: Odoo's test and why it cannot pass; each has its counterpart among our own
LOCAL_FILES = {
    "test_02_store_on_disk": "expects a local file named by the SHA-1",
    "test_04_keep_file": "expects a local file to be there",
    "test_05_change_data_change_file": "expects local files to be there",
    "test_11_copy": "expects store_fname to be the path of a local file",
    "test_12_gc": "expects the collector of local files to remove one",
    "test_13_rollback": "expects the collector of local files to remove one",
    "test_write_error": "patches the path of a local file to one that is not writable",
}


@tagged("post_install", "-at_install")
class TestIrAttachmentInS3(TestIrAttachment):
    allow_inherited_tests_method = True

    def setUp(self):
        super().setUp()
        self.env["ir.config_parameter"].set_param(LOCATION, "s3://")


@tagged("post_install", "-at_install")
class TestPermissionsInS3(TestPermissions):
    allow_inherited_tests_method = True

    def setUp(self):
        super().setUp()
        self.env["ir.config_parameter"].sudo().set_param(LOCATION, "s3://")


for _case in (TestIrAttachmentInS3, TestPermissionsInS3):
    for _name in LOCAL_FILES:
        if hasattr(_case, _name):
            setattr(_case, _name, None)
# not collected a second time from this module
del TestIrAttachment, TestPermissions, _case, _name
