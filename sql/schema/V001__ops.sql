-- What was loaded when, from which file, with what result. Every table is written by the load job alone.
-- A load's rows here are published last: a load that is not in ops.loads did not happen.

CREATE SCHEMA IF NOT EXISTS ops
COMMENT 'Operations: loads, their files, validations, applied SQL versions. Times are UTC.'
LOCATION '${warehouse}/ops';

-- One row: a versioned SQL file that was applied.
CREATE TABLE IF NOT EXISTS ops.schema_versions (
  version INT COMMENT 'Number in the file name: V<version>__<name>.sql',
  name STRING COMMENT 'Name in the file name',
  checksum STRING COMMENT 'SHA-256 of the file as it was applied; an applied file may not change',
  applied_at TIMESTAMP COMMENT 'When it was applied, UTC',
  folder STRING COMMENT 'Folder below sql/: schema, mart or gold'
) USING parquet PARTITIONED BY (folder)
COMMENT 'Versioned SQL files that were applied, one row a file'
LOCATION '${warehouse}/ops/schema_versions';

-- One row: a load, published or failed. A run that found nothing new is no load.
CREATE TABLE IF NOT EXISTS ops.loads (
  load_id STRING COMMENT 'Key: start time (UTC) and a random suffix',
  status STRING COMMENT 'published; failed: a critical expectation stopped it, readers keep what they had',
  started_at TIMESTAMP COMMENT 'Start of the load, UTC',
  finished_at TIMESTAMP COMMENT 'End of the load, UTC',
  files_loaded BIGINT COMMENT 'Readings files of which at least the form was good',
  files_rejected BIGINT COMMENT 'Files in quarantine.files',
  readings_loaded BIGINT COMMENT 'Rows of input files that passed every rule',
  readings_rejected BIGINT COMMENT 'Rows of input files in quarantine.readings',
  rejected_by_reason MAP<STRING, BIGINT> COMMENT 'Rejected rows and files by reason',
  dates_published BIGINT COMMENT 'Dates of silver.readings that were switched to new content',
  mart_dates_published BIGINT COMMENT 'Dates of the marts that were switched to new content',
  first_date DATE COMMENT 'First local date of readings switched, null if none',
  last_date DATE COMMENT 'Last local date of readings switched, null if none',
  snapshot_date DATE COMMENT 'Date of the reference snapshot that this load brought, null if none',
  warnings BIGINT COMMENT 'Failed warning expectations',
  error STRING COMMENT 'Why the load, or its reference file, failed; null if nothing did',
  load_date DATE COMMENT 'UTC date of started_at'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'Loads, one row a load'
LOCATION '${warehouse}/ops/loads';

-- One row: a delivered version of an input file, as a load took it.
CREATE TABLE IF NOT EXISTS ops.load_files (
  load_id STRING COMMENT 'Load that took the file',
  source_file STRING COMMENT 'Path below the landing place',
  kind STRING COMMENT 'readings or reference',
  status STRING COMMENT 'loaded; unchanged: same bytes as before; rejected: see quarantine.files',
  size_bytes BIGINT COMMENT 'Size of the file, bytes',
  modified_at TIMESTAMP COMMENT 'Modification time of the file, UTC; where two files give one reading, the later wins',
  sha256 STRING COMMENT 'SHA-256 of the file''s bytes',
  rows_read BIGINT COMMENT 'Rows in the file',
  rows_rejected BIGINT COMMENT 'Of these, rows in quarantine.readings',
  first_date DATE COMMENT 'First local date of its good readings, null if none',
  last_date DATE COMMENT 'Last local date of its good readings, null if none',
  note STRING COMMENT 'What a person should know: columns that were ignored, reason of rejection',
  load_date DATE COMMENT 'UTC date of the load''s start'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'Input files by load, one row a delivered version of a file'
LOCATION '${warehouse}/ops/load_files';

-- One row: an expectation suite that judged what a load wrote to one table.
CREATE TABLE IF NOT EXISTS ops.validations (
  load_id STRING COMMENT 'Load whose writing was judged',
  table_name STRING COMMENT 'Table that was judged, schema.table',
  passed BOOLEAN COMMENT 'No critical expectation failed',
  expectations BIGINT COMMENT 'Expectations that were evaluated',
  critical_failures ARRAY<STRING> COMMENT 'Failed critical expectations, a sentence each',
  warnings ARRAY<STRING> COMMENT 'Failed warning expectations, a sentence each',
  page STRING COMMENT 'Its page in the reports, path below the reports folder',
  load_date DATE COMMENT 'UTC date of the load''s start'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'Great Expectations results, one row a load and table'
LOCATION '${warehouse}/ops/validations';
