-- What a load switched, and what is open in quarantine.

-- At most one row: the load that began to switch tables last. While it is not in ops.loads, it is at it or was killed.
CREATE TABLE IF NOT EXISTS ops.publishing (
  load_id STRING COMMENT 'Load that began to switch tables',
  began_at TIMESTAMP COMMENT 'When it began, UTC',
  kind STRING COMMENT 'Always last; tables are published by partition, so there is one'
) USING parquet PARTITIONED BY (kind)
COMMENT 'The load that began to publish last, one row'
LOCATION '${warehouse}/ops/publishing';

-- One row: a partition that a load switched to another folder. The folders stay until they are collected.
CREATE TABLE IF NOT EXISTS ops.publications (
  load_id STRING COMMENT 'Load that switched it',
  table_name STRING COMMENT 'Table, schema.table',
  partition_value STRING COMMENT 'Value of the table''s partition column',
  folder STRING COMMENT 'Folder that the partition names since then',
  readings_added BIGINT COMMENT 'Of silver.readings: keys that were not there before; null for other tables',
  readings_changed BIGINT COMMENT 'Of silver.readings: keys whose consumption is another one',
  readings_removed BIGINT COMMENT 'Of silver.readings: keys that are no longer there',
  load_date DATE COMMENT 'UTC date of the load''s start'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'Partitions that loads switched, one row per load, table and partition'
LOCATION '${warehouse}/ops/publications';

CREATE OR REPLACE VIEW quarantine.open_files (
  source_file COMMENT 'Path below the landing place',
  kind COMMENT 'readings or reference',
  reason COMMENT 'Rule that it broke, see docs/rules.md',
  detail COMMENT 'What exactly was wrong, and where',
  size_bytes COMMENT 'Size of the file, bytes',
  load_id COMMENT 'Load that rejected it, see ops.loads',
  load_date COMMENT 'UTC date of the load''s start'
) COMMENT 'Rejected files of which no later version was loaded or rejected, one row per file' AS
SELECT source_file, kind, reason, detail, size_bytes, load_id, load_date
FROM quarantine.files AS rejected
WHERE load_id = (
  SELECT max(version.load_id) FROM ops.load_files AS version
  WHERE version.source_file = rejected.source_file AND version.status <> 'unchanged'
);

CREATE OR REPLACE VIEW quarantine.open_readings (
  source_file COMMENT 'File it stood in, path below the landing place',
  position COMMENT 'Index of the row in the file''s data, from 0',
  reason COMMENT 'Rule that it broke, see docs/rules.md',
  row_json COMMENT 'The row as it was delivered, as a JSON object of column and value',
  load_id COMMENT 'Load that rejected it, see ops.loads',
  load_date COMMENT 'UTC date of the load''s start'
) COMMENT 'Rejected readings of files of which no later version was loaded or rejected, one row per row of a file' AS
SELECT source_file, position, reason, row_json, load_id, load_date
FROM quarantine.readings AS rejected
WHERE load_id = (
  SELECT max(version.load_id) FROM ops.load_files AS version
  WHERE version.source_file = rejected.source_file AND version.status <> 'unchanged'
);

-- One row: a load that was rolled back, and the load that did it.
CREATE TABLE IF NOT EXISTS ops.rollbacks (
  load_id STRING COMMENT 'Load of status rollback',
  rolled_back_load_id STRING COMMENT 'Load that it undid',
  load_date DATE COMMENT 'UTC date of the rollback'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'Loads that were rolled back, one row a rollback'
LOCATION '${warehouse}/ops/rollbacks';
