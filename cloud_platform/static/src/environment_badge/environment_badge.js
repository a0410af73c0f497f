import { Component } from "@odoo/owl";
import { registry } from "@web/core/registry";
import { session } from "@web/session";

/** Names the environment in the navigation bar, unless it is production. */
export class EnvironmentBadge extends Component {
    static template = "cloud_platform.EnvironmentBadge";
    static props = {};

    get environment() {
        return session.cloud_platform_environment;
    }
}

export const environmentBadge = {
    Component: EnvironmentBadge,
    isDisplayed: () => ![undefined, "prod"].includes(session.cloud_platform_environment),
};

registry
    .category("systray")
    .add("cloud_platform.environment", environmentBadge, { sequence: 200 });
