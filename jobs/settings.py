"""Settings: environment variables with the prefix `LAKE_`; the defaults are the embedded lakehouse.

Secrets are not settings: the object store's keys are read by Spark and Arrow themselves from
`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, the password of the jobs' own user of the SQL endpoint is taken from
`LAKE_SQL_PASSWORD` where it is used, so that no key is ever a JVM property or a log line.
"""

import difflib
import re
from collections.abc import Iterable
from datetime import time
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import ByteSize, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent
SQL = PROJECT / "sql"
EXPECTATIONS = PROJECT / "expectations"
MIB = 2**20
# A time that something is kept; a hundred years at most, which any calendar reaches back.
Months = Annotated[int, Field(ge=0, le=1200)]
SMALLEST_HEAP = 512 * MIB  # Spark starts with no less than 450 MiB
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def clock_times(text: str) -> list[time]:
    """Times such as "08:05, 9:05", in order and each once; "none" is no time.

    Raises ValueError.
    """
    if text.strip() == "none":
        return []
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", part.strip(), re.ASCII)
        if not match:
            raise ValueError(f"{part.strip()!r} is no time of a day; 08:05 is one")
        found.append(time(int(match[1]), int(match[2])))
    return sorted(set(found))


def _url(name: str, value: str) -> SplitResult:
    """Raises ValueError, which does not repeat the value."""
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise ValueError(f"{name} is no URL") from None
    if not url.hostname:
        raise ValueError(f"{name} has no host")
    return url


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
    query_disk_bytes: ByteSize = Field(
        ByteSize(10 * 1024 * MIB), description="Most that temporary files of all queries at the SQL endpoint may take"
    )
    query_held_percent: int = Field(
        25, description="Share of the SQL endpoint's heap that all results in memory may take", ge=1, le=90
    )
    query_held_seconds: int = Field(
        1200, description="A result from which nothing was fetched for so long is freed; 0: never", ge=0
    )
    users: Path = Field(Path("var/users/users.json"), description="File of the SQL endpoint's users")
    tls: Path = Field(
        Path("var/users/tls.pem"), description="Key and certificate of the SQL endpoint; no such file: no TLS"
    )
    pseudonyms: bool = Field(True, description="Analysts at the SQL endpoint see pseudonyms in the place of ids")
    min_group: int = Field(
        0, ge=0, le=1_000_000, description="Analysts see no sums of a product or region with fewer meterpoints; 0: all"
    )
    http: bool = Field(False, description="The SQL endpoint speaks Thrift over HTTP, and nothing else")
    ldap_url: str = Field("", description="ldaps:// URL of a directory whose users may log in at the SQL endpoint")
    ldap_bind: str = Field("", description="Name as which a user binds, with {user} for what was typed")
    ldap_base: str = Field("", description="DN under which the three filters search")
    ldap_analysts: str = Field("", description="Filter that finds something if {user}, or {dn}, is an analyst")
    ldap_stewards: str = Field("", description="Filter that finds something if {user}, or {dn}, is a steward")
    ldap_engineers: str = Field("", description="Filter that finds something if {user}, or {dn}, is an engineer")
    s3_endpoint: str | None = Field(None, description="URL of an S3-compatible store other than AWS")
    spark_master: str = Field("local[*]", description="local[*], spark://…, k8s://… or yarn")
    spark_cores: int = Field(0, ge=0, description="Most cores of a standalone cluster that a process takes; 0: all")
    executor_memory: str = Field("1g", description="Heap of each executor of a cluster")
    driver_memory: str = Field("2g", description="Heap of the Spark driver, which in local mode does all the work")
    retention_hours: float = Field(
        24, ge=0, le=24 * 366 * 100, description="How long a folder stays after another took its place"
    )
    keep_readings_months: Months = Field(0, description="Months that readings are kept; 0: for ever")
    keep_snapshots_months: Months = Field(0, description="Months that reference snapshots are kept; 0: for ever")
    keep_quarantine_months: Months = Field(0, description="Months that what was rejected is kept; 0: for ever")
    keep_reports_months: Months = Field(0, description="Months that pages of loads are kept; 0: for ever")
    keep_superseded_months: Months = Field(
        14, description="Months that values which a load replaced are kept, to look back; 0: for ever"
    )
    erase_wait_seconds: int = Field(
        60, ge=0, le=86_400, description="In the stack: how long queries that began before an erasure may still read"
    )
    lock_wait_seconds: int = Field(
        60, ge=0, le=86_400, description="How long a run waits for another one to end before it gives up"
    )
    schedule_readings: str = Field(
        "08:05, 09:05, 10:05, 11:05, 12:05",
        description="Times of the scheduler's loads after the delivery, HH:MM in Europe/London, or none",
    )
    schedule_reference: str = Field("00:30", description="Times of its loads of the reference file; likewise")
    schedule_timeout_seconds: int = Field(4 * 3600, gt=0, description="Longest run of a load that the scheduler starts")
    schedule_attempts: int = Field(4, gt=0, description="How often the scheduler tries a load whose failure may pass")
    schedule_backoff_seconds: float = Field(60, ge=0, description="Wait before its second attempt; doubles each time")
    deadline: str = Field("08:00", description="Local time by which yesterday's readings are delivered, HH:MM")
    deadline_grace_minutes: int = Field(30, ge=0, description="How long after the deadline nothing is said yet")
    snapshot_days: int = Field(1, ge=0, description="Age in days at which a reference snapshot is not yet stale")
    certificate_days: int = Field(30, ge=0, description="Days before the end of the certificate from which it is told")
    disk_free_percent: float = Field(10, ge=0, le=100, description="Free disk below which it is told; half: critical")
    log_format: Literal["text", "json", "auto"] = Field(
        "text", description="Form of the log's lines; auto: text on a terminal, else JSON"
    )
    metrics_file: Path | None = Field(None, description="File that each check writes, in Prometheus' text format")
    endpoint_metrics: str | None = Field(None, description="http:// URL of the SQL endpoint's metrics, for that page")
    endpoint_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the SQL endpoint's own metrics, which need no password; 0: none"
    )
    alarm_webhook: str | None = Field(None, description="https:// URL (http:// for this machine) that gets alarms")
    alarm_smtp: str | None = Field(
        None, description="smtps://host[:port], smtp:// with STARTTLS, or smtp-plain:// without TLS, for this machine"
    )
    alarm_smtp_user: str | None = Field(None, description="User of the mail server; password: LAKE_ALARM_SMTP_PASSWORD")
    alarm_from: str | None = Field(None, description="Sender of the mails")
    alarm_to: str | None = Field(None, description="Receivers of the mails, separated by commas")

    @field_validator("schedule_readings", "schedule_reference", "deadline")
    @classmethod
    def times_of_day(cls, times: str) -> str:
        """Raises ValueError if one of them is no time of a day."""
        if times.strip() != "none":
            clock_times(times)
        return times

    @field_validator("deadline")
    @classmethod
    def one_time(cls, value: str) -> str:
        if value.strip() == "none" or len(clock_times(value)) != 1:
            raise ValueError("one time is meant, as in 08:00")
        return value

    @model_validator(mode="after")
    def alarms_can_be_sent(self) -> "Settings":
        """The values themselves are not repeated: the address of a webhook can be a secret."""
        if self.alarm_webhook:
            url = _url("LAKE_ALARM_WEBHOOK", self.alarm_webhook)
            if url.scheme != "https" and (url.scheme != "http" or url.hostname not in THIS_MACHINE):
                raise ValueError("LAKE_ALARM_WEBHOOK must be an https:// URL (http:// only to localhost)")
        if self.alarm_smtp:
            url = _url("LAKE_ALARM_SMTP", self.alarm_smtp)
            if url.username or url.password:
                raise ValueError("LAKE_ALARM_SMTP must hold no user: LAKE_ALARM_SMTP_USER and …_PASSWORD do")
            if url.scheme not in ("smtp", "smtps") and (url.scheme != "smtp-plain" or url.hostname not in THIS_MACHINE):
                raise ValueError("LAKE_ALARM_SMTP must be smtps:// or smtp:// (smtp-plain:// only to localhost)")
            if not self.alarm_from or not self.alarm_to:
                raise ValueError("LAKE_ALARM_SMTP needs LAKE_ALARM_FROM and LAKE_ALARM_TO")
            if re.search(r"[\r\n]", self.alarm_from + self.alarm_to):
                raise ValueError("LAKE_ALARM_FROM and LAKE_ALARM_TO must be one line each")
        return self

    @field_validator("http", "pseudonyms", mode="before")
    @classmethod
    def spelled_out(cls, value: object) -> object:
        """No other spelling is taken: the health check and `make up` read this variable, too, and know no other."""
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
        if not self.ldap_base or not (self.ldap_analysts or self.ldap_stewards or self.ldap_engineers):
            raise ValueError("LAKE_LDAP_URL needs LAKE_LDAP_BASE, and LAKE_LDAP_ANALYSTS, …_STEWARDS or …_ENGINEERS")
        return self

    @field_validator("landing", "warehouse")
    @classmethod
    def of_a_known_kind(cls, location: str) -> str:
        scheme, is_uri, rest = location.partition("://")
        if is_uri and (scheme != "s3a" or not rest.strip("/")):
            other = f"; write s3a://{rest}" if scheme == "s3" and rest.strip("/") else ""
            raise ValueError(f"{location}: a folder, or s3a://bucket/path, is meant{other}")
        return location

    @field_validator("spark_master")
    @classmethod
    def master_that_spark_knows(cls, master: str) -> str:
        if not re.fullmatch(r"local(\[(\*|[1-9]\d*)(, *[1-9]\d*)?\])?|spark://\S+|k8s://\S+|yarn", master):
            raise ValueError(
                f"{master!r} is no master: local[*], local[2], spark://host:7077, k8s://… or yarn is meant"
            )
        return master

    @field_validator("driver_memory", "executor_memory")
    @classmethod
    def heap_that_spark_starts_with(cls, heap: str) -> str:
        match = re.fullmatch(r"([1-9]\d{0,9})([kmgt])", heap, re.ASCII | re.IGNORECASE)
        if not match or int(match[1]) * 1024 ** (1 + "kmgt".index(match[2].lower())) < SMALLEST_HEAP:
            raise ValueError(f"{heap!r} is no heap of Java's: 2g or 1500m is meant, 512m is the least")
        return heap

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


# No fields of Settings: secrets and what callers say, which are read where they are used, and what scripts,
# compose.yaml, services and tests read.
_OTHERS = """
    ALARM_SMTP_PASSWORD BACKUPS BIND BIND_WITHOUT_TLS BUCKET
    COMMAND DASHBOARD_BIND DASHBOARD_CPUS DASHBOARD_MEMORY DASHBOARD_PASSWORD DASHBOARD_PORT
    DASHBOARD_SECRET DASHBOARD_SQL_PASSWORD DB_ENDPOINT_PASSWORD DB_METASTORE_PASSWORD EMBEDDED ENDPOINT_CORES
    ENDPOINT_CPUS ENDPOINT_HEAP ENDPOINT_MEMORY ENDPOINT_PIDS GID INIT_MEMORY JOBS_CPUS JOBS_HEAP JOBS_MEMORY JOBS_PIDS
    LANDING_DIR LDAP_AUTHORITIES METADATA_DB_CPUS METADATA_DB_MEMORY METASTORE_CPUS METASTORE_MEMORY
    KEYSTORE_PASSWORD OBJECT_STORE_CPUS PSEUDONYM_KEY REPORTS_BIND
    OBJECT_STORE_MEMORY REPORTS_CPUS REPORTS_MEMORY REPORTS_PORT S3_ADMIN S3_ADMIN_SECRET S3_BIND S3_CONSOLE_PORT
    S3_ENDPOINT_SECRET S3_ENDPOINT_USER S3_JOBS S3_JOBS_SECRET S3_PORT SERVICE_PIDS SIEGE_MINUTES SOAK_MINUTES
    SPARK_SECRET SQL_PASSWORD SQL_PASSWORD_HASH SQL_PORT UID UP_TIMEOUT USER
    MASTER_MEMORY WORKERS WORKER_CORES WORKER_CPUS WORKER_HEAP WORKER_MEMORY WORKER_PIDS
"""
OTHER_NAMES = frozenset(f"LAKE_{name}" for name in _OTHERS.split())


def unknown_names(names: Iterable[str]) -> list[str]:
    """Of names of environment variables those that begin as a setting does and are none, a sentence each."""
    known = OTHER_NAMES | {f"LAKE_{name.upper()}" for name in Settings.model_fields}
    texts = []
    for name in sorted(name for name in names if name.upper().startswith("LAKE_") and name.upper() not in known):
        close = difflib.get_close_matches(name.upper(), known, n=1)
        texts.append(f"{name} is no setting" + (f"; did you mean {close[0]}?" if close else ""))
    return texts


def wrong_values(error: ValidationError) -> list[str]:
    """What is wrong with settings, a sentence each. Of values only numbers are repeated: others may be secrets."""
    texts = []
    for wrong in error.errors():
        name = "".join(f"LAKE_{part}: ".upper() for part in wrong["loc"])
        value, limits = wrong["input"], wrong.get("ctx", {})
        kind = wrong["type"]
        if kind.startswith("int_"):
            text = f"{value!r} is no whole number"
        elif kind.startswith("float_"):
            text = f"{value!r} is no number"
        elif kind.startswith("byte_size"):
            text = f"{value!r} is no size; 16GiB is one"
        elif kind == "greater_than_equal":
            text = f"{value} is too little; {limits['ge']:g} is the least"
        elif kind == "greater_than":
            text = f"{value} is too little; more than {limits['gt']:g} is meant"
        elif kind == "less_than_equal":
            text = f"{value} is too much; {limits['le']:g} is the most"
        else:
            text = wrong["msg"].removeprefix("Value error, ")
        texts.append(name + text)
    return texts
