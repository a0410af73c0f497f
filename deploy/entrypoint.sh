#!/bin/sh
# What a container of the image does, step by step:
#   check                 the platform's checks and its services; ends with 1 on a fault
#   migrate MODULES SONG  install what is missing, upgrade what is outdated, play a song
#   serve [OPTION…]       the server; its log is JSON from the first line on
# For example `check serve`. Any other command is run as it is: `odoo shell`, `anthem …`.
# The database is PGDATABASE.
set -eu

while [ $# -gt 0 ]; do
    step=$1
    shift
    case $step in
    check)
        odoo cloudcheck
        ;;
    migrate)
        if [ $# -lt 2 ]; then
            echo "migrate: give the modules and the song" >&2
            exit 2
        fi
        odoo server --init="$1" --stop-after-init --no-http
        odoo module upgrade all --outdated
        # the song last, in this same container: it also moves what modules stored in
        # local files while they were loaded before attachment_s3
        anthem "$2"
        shift 2
        ;;
    serve)
        exec odoo cloudserver "$@"
        ;;
    *)
        exec "$step" "$@"
        ;;
    esac
done
