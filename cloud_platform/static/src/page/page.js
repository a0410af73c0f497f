import { Component, onWillStart, onWillUnmount, useState } from "@odoo/owl";
import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { useService } from "@web/core/utils/hooks";
import { formatFloat } from "@web/core/utils/numbers";
import { standardActionServiceProps } from "@web/webclient/actions/action_service";

const MODEL = "cloud.platform.page";
const POLL_MILLISECONDS = 2000;
const MEBIBYTE = 1024 * 1024;

/** Settings → Cloud Platform. The server tells everything, so a reload loses nothing. */
export class CloudPlatformPage extends Component {
    static template = "cloud_platform.Page";
    static props = { ...standardActionServiceProps };

    setup() {
        this.orm = useService("orm");
        this.state = useState({
            page: null,
            sessions: null,
            connections: null,
            checking: false,
        });
        onWillStart(() => this.load());
        onWillUnmount(() => clearTimeout(this.timer));
    }

    async load({ silent = false } = {}) {
        clearTimeout(this.timer);
        const orm = silent ? this.orm.silent : this.orm;
        this.state.page = await orm.call(MODEL, "read_page", []);
        if (!this.state.sessions) {
            this.countSessions();
        }
        if (this.isMoving) {
            this.timer = setTimeout(() => this.poll(), POLL_MILLISECONDS);
        }
    }

    async poll() {
        try {
            await this.load({ silent: true });
        } catch {
            // a server that restarts does not end the progress
            this.timer = setTimeout(() => this.poll(), POLL_MILLISECONDS);
        }
    }

    async countSessions() {
        this.state.sessions = await this.orm.silent.call(MODEL, "count_sessions", []);
    }

    async checkConnections() {
        this.state.checking = true;
        try {
            this.state.connections = await this.orm.call(MODEL, "check_connections", []);
        } finally {
            this.state.checking = false;
        }
    }

    async moveAttachments() {
        await this.orm.call(MODEL, "move_attachments", []);
        await this.load();
    }

    async cancelMove() {
        await this.orm.call(MODEL, "cancel_move", []);
        await this.load();
    }

    get faults() {
        return this.state.page.checks.flatMap((check) => check.faults);
    }

    get migration() {
        return this.state.page.migration;
    }

    get isMoving() {
        return Boolean(this.migration?.moving);
    }

    get progressText() {
        const { moved, total, megabytes_per_second, seconds_left } = this.migration;
        const values = {
            moved: this.number(moved),
            total: this.number(total),
            rate: formatFloat(megabytes_per_second, { digits: [16, 1] }),
            left: this.duration(seconds_left),
        };
        return seconds_left
            ? _t("%(moved)s of %(total)s moved, %(rate)s MB/s, about %(left)s left", values)
            : _t("%(moved)s of %(total)s moved, %(rate)s MB/s", values);
    }

    get lastMoveText() {
        const { status_title, moved, failed } = this.migration;
        return _t("Last move: %(status)s, %(moved)s moved, %(failed)s left in their place", {
            status: status_title,
            moved: this.number(moved),
            failed: this.number(failed),
        });
    }

    sessionsText(count) {
        return this.state.sessions.complete
            ? this.number(count)
            : _t("more than %s", this.number(count));
    }

    number(value) {
        return formatFloat(value, { digits: [16, 0] });
    }

    megabytes(bytes) {
        return _t("%s MB", formatFloat(bytes / MEBIBYTE, { digits: [16, 1] }));
    }

    percent(value) {
        return `${Math.floor(value)} %`;
    }

    duration(seconds) {
        if (seconds < 90) {
            return _t("%s s", Math.round(seconds));
        }
        return seconds < 5400
            ? _t("%s min", Math.round(seconds / 60))
            : _t("%s h", Math.round(seconds / 3600));
    }
}

registry.category("actions").add("cloud_platform.page", CloudPlatformPage);
