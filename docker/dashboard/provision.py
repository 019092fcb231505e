"""Makes or renews Superset's own database: tables, roles, the user admin, and the dashboard of the folder `assets`.

The assets are what Superset exports. What has the uuid of one of them is overwritten, all else is kept.
"""

import logging
import os
import sys
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


def main() -> None:
    """Raises SystemExit with a line that says what is wrong."""
    from superset.app import create_app

    app = create_app()
    logging.getLogger("alembic").setLevel(logging.WARNING)  # hundreds of lines about Superset's own tables
    with app.app_context():
        from flask_migrate import upgrade
        from sqlalchemy.exc import NoSuchTableError
        from superset import appbuilder, db, security_manager
        from superset.commands.exceptions import CommandException
        from superset.commands.importers.v1.assets import ImportAssetsCommand
        from superset.connectors.sqla.models import SqlaTable
        from superset.utils.core import override_user

        upgrade()
        appbuilder.add_permissions(update_perms=True)
        security_manager.sync_role_definitions()
        password = os.environ["LAKE_DASHBOARD_PASSWORD"]
        admin = security_manager.find_user("admin")
        if admin:
            security_manager.reset_password(admin.id, password)
        else:
            role = security_manager.find_role("Admin")
            names = {"username": "admin", "first_name": "Lakehouse", "last_name": "Admin", "email": "admin@localhost"}
            admin = security_manager.add_user(**names, role=role, password=password)
        contents = {str(path.relative_to(ASSETS)): path.read_text() for path in sorted(ASSETS.rglob("*.yaml"))}
        contents["metadata.yaml"] = "version: 1.0.0\ntype: assets\n"  # an export says that it is a dashboard
        with override_user(admin):
            try:
                ImportAssetsCommand(contents).run()
                for dataset in db.session.query(SqlaTable).filter_by(schema="gold"):
                    dataset.fetch_metadata()  # columns and their comments, as the endpoint has them now
            except NoSuchTableError as error:
                sys.exit(f"error: there is no view {error} yet: 'make run' makes it")
            except CommandException as error:
                sys.exit(f"error: the dashboard was not imported: {error.__cause__ or error}")
            db.session.commit()
    print("the dashboard is provisioned")


if __name__ == "__main__":
    main()
