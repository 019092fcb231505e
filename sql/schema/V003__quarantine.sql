-- Every rejected row and file, whole, with its reason. Nothing that was delivered is lost.

CREATE SCHEMA IF NOT EXISTS quarantine
COMMENT 'Rejected rows and files, whole, with the rule that they broke'
LOCATION '${warehouse}/quarantine';

-- One row: a row of a readings file that broke a rule.
CREATE TABLE IF NOT EXISTS quarantine.readings (
  source_file STRING COMMENT 'File it stood in, path below the landing place',
  position BIGINT COMMENT 'Index of the row in the file''s data, from 0',
  reason STRING COMMENT 'Rule that it broke, see docs/rules.md',
  row_json STRING COMMENT 'The row as it was delivered, as a JSON object of column and value',
  load_id STRING COMMENT 'Load that rejected it, see ops.loads',
  load_date DATE COMMENT 'UTC date of the load''s start'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'Rejected readings, one row per rejected row of a file'
LOCATION '${warehouse}/quarantine/readings';

-- One row: a file that could not be read at all.
CREATE TABLE IF NOT EXISTS quarantine.files (
  source_file STRING COMMENT 'Path below the landing place',
  kind STRING COMMENT 'readings or reference',
  reason STRING COMMENT 'Rule that it broke, see docs/rules.md',
  detail STRING COMMENT 'What exactly was wrong, and where',
  size_bytes BIGINT COMMENT 'Size of the file, bytes',
  sha256 STRING COMMENT 'SHA-256 of the file''s bytes',
  content BINARY COMMENT 'The file''s bytes, whole; null if over 64 MiB, then only the landing place has it',
  load_id STRING COMMENT 'Load that rejected it, see ops.loads',
  load_date DATE COMMENT 'UTC date of the load''s start'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'Rejected files, one row per rejected version of a file'
LOCATION '${warehouse}/quarantine/files';
