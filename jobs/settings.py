"""Settings: environment variables with the prefix `LAKE_`; the defaults are the embedded lakehouse.

Secrets are not settings: the object store's keys are read by Spark and Arrow themselves from
`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, the password of the jobs' own user of the SQL endpoint is taken from
`LAKE_SQL_PASSWORD` where it is used, so that no key is ever a JVM property or a log line.
"""

import re
from pathlib import Path

from pydantic import ByteSize, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent
SQL = PROJECT / "sql"
EXPECTATIONS = PROJECT / "expectations"
MIB = 2**20


class Settings(BaseSettings):
    """Where things are. The embedded lakehouse and the stack differ in these values alone."""

    model_config = SettingsConfigDict(env_prefix="LAKE_", env_ignore_empty=True, frozen=True)

    landing: str = Field("landing", description="Folder or s3a:// URI with readings/ and case_study.db")
    warehouse: str = Field("var/warehouse", description="Folder or s3a:// URI of the tables' files")
    metastore: str | None = Field(None, description="thrift:// URI of a Hive metastore; none: embedded (Derby)")
    metastore_jars: Path | None = Field(None, description="Folder of the jars of the metastore's client")
    state: Path = Field(Path("var"), description="Local folder of the writer's lock and the embedded metastore")
    reports: Path = Field(Path("var/reports"), description="Local folder of the HTML reports")
    reports_url: str | None = Field(None, description="Address at which the reports folder is served, if it is")
    endpoint: str | None = Field(None, description="host:port of the SQL endpoint; none: `lake sql` runs its own Spark")
    endpoint_guard: Path = Field(
        Path("/opt/lake/endpoint-guard.jar"), description="Plug-in that guards the SQL endpoint"
    )
    endpoint_port: int = Field(10000, description="Port that the SQL endpoint listens on")
    query_seconds: int = Field(600, description="Longest run of a query at the SQL endpoint; 0: no limit")
    query_scan_bytes: ByteSize = Field(
        ByteSize(16 * 1024 * MIB), description="Most that a query at the SQL endpoint may read, as files"
    )
    query_result_bytes: ByteSize = Field(
        ByteSize(8 * MIB), description="Largest result that the SQL endpoint holds in memory, as Spark packs it"
    )
    users: Path = Field(Path("var/users/users.json"), description="File of the SQL endpoint's users")
    tls: Path = Field(
        Path("var/users/tls.pem"), description="Key and certificate of the SQL endpoint; no such file: no TLS"
    )
    http: bool = Field(False, description="The SQL endpoint speaks Thrift over HTTP, and nothing else")
    ldap_url: str = Field("", description="ldaps:// URL of a directory whose users may log in at the SQL endpoint")
    ldap_bind: str = Field("", description="Name as which a user binds, with {user} for what was typed")
    ldap_base: str = Field("", description="DN under which the two filters search")
    ldap_analysts: str = Field("", description="Filter that finds something if {user}, or {dn}, is an analyst")
    ldap_engineers: str = Field("", description="Filter that finds something if {user}, or {dn}, is an engineer")
    s3_endpoint: str | None = Field(None, description="URL of an S3-compatible store other than AWS")
    spark_master: str = Field("local[*]", description="local[*], spark://…, k8s://… or yarn")
    driver_memory: str = Field("2g", description="Heap of the Spark driver, which in local mode does all the work")
    retention_hours: float = Field(
        24, ge=0, le=24 * 366 * 100, description="How long a folder stays after another took its place"
    )
    lock_wait_seconds: int = Field(
        60, ge=0, le=86_400, description="How long a run waits for another one to end before it gives up"
    )

    @field_validator("http", mode="before")
    @classmethod
    def spelled_out(cls, value: object) -> object:
        """The health check and `make up` read it, too."""
        if value not in (True, False, "true", "false"):
            raise ValueError("true or false is meant")
        return value

    @model_validator(mode="after")
    def metastore_has_its_client(self) -> "Settings":
        if self.metastore and not self.metastore_jars:
            raise ValueError("LAKE_METASTORE needs LAKE_METASTORE_JARS, the folder of the jars of its client")
        return self

    @model_validator(mode="after")
    def directory_is_whole(self) -> "Settings":
        """A directory that cannot work is an error at the start, not one of every login."""
        if not self.ldap_url:
            return self
        if not re.fullmatch(r"ldaps://\S+", self.ldap_url):
            raise ValueError("LAKE_LDAP_URL must be one ldaps:// URL: passwords are sent to it")
        if "{user}" not in self.ldap_bind:
            raise ValueError("LAKE_LDAP_BIND must have {user} in it, as in uid={user},ou=people,dc=example,dc=org")
        if not self.ldap_base or not (self.ldap_analysts or self.ldap_engineers):
            raise ValueError("LAKE_LDAP_URL needs LAKE_LDAP_BASE, and LAKE_LDAP_ANALYSTS or LAKE_LDAP_ENGINEERS")
        return self

    @field_validator("landing", "warehouse")
    @classmethod
    def of_a_known_kind(cls, location: str) -> str:
        scheme, is_uri, rest = location.partition("://")
        if is_uri and (scheme not in ("s3a", "s3") or not rest.strip("/")):
            raise ValueError(f"{location}: a folder, or s3a://bucket/path, is meant")
        return location

    @field_validator("landing", "warehouse")
    @classmethod
    def absolute(cls, location: str) -> str:
        """A relative folder depends on the working directory; a table's location must not."""
        return location.rstrip("/") if "://" in location else str(Path(location).resolve())

    @field_validator("state", "reports", "users", "tls")
    @classmethod
    def absolute_path(cls, path: Path) -> Path:
        return path.resolve()

    @field_validator("warehouse", "state")
    @classmethod
    def plain(cls, location: str | Path) -> str | Path:
        """Spark and Hive spell a path as a URI, as an option of Java or as SQL, and not each of them undoes it."""
        if odd := re.search(r"""[\s'"%*?#;,\\{}\[\]]""", str(location)):
            raise ValueError(f"Spark does not work in a folder with {odd[0]!r} in its path: {location}")
        return location
