-- What each file says of each meterpoint-day, which readings lost to another file, and what a person decided.

ALTER TABLE silver.readings ADD COLUMNS (reading_quality STRING COMMENT 'What the file says of the reading, A: actual, E: estimated, or its own word; null if it says nothing');

-- One row: a good reading that does not count, because another file that was modified later has the same half hour.
-- It counts again when that file gives it up. Key: meterpoint_id, interval_start_utc, source_file.
CREATE TABLE IF NOT EXISTS silver.contested_readings (
  meterpoint_id STRING COMMENT 'Meterpoint that was read',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London); in October 01:00 and 01:30 occur twice',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  consumption_kwh DECIMAL(9,6) COMMENT 'Energy used in the half hour as this file has it, kWh',
  source_file STRING COMMENT 'File it came from, path below the landing place',
  load_id STRING COMMENT 'Load that brought it, see ops.loads',
  reading_quality STRING COMMENT 'What the file says of the reading, A: actual, E: estimated, or its own word; null if it says nothing',
  date DATE COMMENT 'Local date of interval_start'
) USING parquet PARTITIONED BY (date)
COMMENT 'Readings that another file, modified later, has too: they do not count, one row per meterpoint, half hour and file'
LOCATION '${warehouse}/silver/contested_readings';

-- One row: a file's word on one meterpoint-day, and which version of the file counts for it.
-- A new version of a file replaces the claims on the meterpoint-days that it speaks of, and no others.
CREATE TABLE IF NOT EXISTS ops.claims (
  source_file STRING COMMENT 'File, path below the landing place',
  meterpoint_id STRING COMMENT 'Meterpoint that it speaks of',
  load_id STRING COMMENT 'Load that took the version of the file which counts for this meterpoint-day',
  modified_at TIMESTAMP COMMENT 'Modification time of that version, UTC, at most the start of its load; of several files that have a half hour the latest counts, then the greater path',
  readings INT COMMENT 'Good readings that it gives of the meterpoint-day',
  date DATE COMMENT 'Local date that it speaks of'
) USING parquet PARTITIONED BY (date)
COMMENT 'Which version of which file counts for which meterpoint-day, one row per file, meterpoint and date'
LOCATION '${warehouse}/ops/claims';

ALTER TABLE quarantine.readings ADD COLUMNS (
  meterpoint_id STRING COMMENT 'Meterpoint of the row, null where it cannot be told',
  date DATE COMMENT 'Local date of the row, null where it cannot be told'
);

ALTER TABLE ops.loads ADD COLUMNS (
  kind STRING COMMENT 'load; retract, reload, rebuild: a person asked for it; rollback; dismiss: of quarantine entries; upgrade: claims made for readings of an older version',
  accepted ARRAY<STRING> COMMENT 'What a person let pass with --accept',
  warnings_by_name MAP<STRING, BIGINT> COMMENT 'What was noticed in the files, see docs/rules.md, and how often',
  stage_seconds MAP<STRING, DOUBLE> COMMENT 'Seconds that each stage took'
);
ALTER TABLE ops.load_files ADD COLUMNS (warnings MAP<STRING, BIGINT> COMMENT 'What was noticed in the file, see docs/rules.md, and how often');
ALTER TABLE ops.load_files ALTER COLUMN status COMMENT 'loaded; unchanged: same bytes as before; rejected: see quarantine.files; dismissed: a person took it off the list of what is in quarantine';
ALTER TABLE ops.load_files ALTER COLUMN load_id COMMENT 'Load that took the file; of a load that failed the files are not known, and read again by the next one';
ALTER TABLE ops.rollbacks ADD COLUMNS (
  target_load_id STRING COMMENT 'Load whose content was taken away or put back: rolled_back_load_id, or, if that is a rollback, the load which it had undone',
  in_effect BOOLEAN COMMENT 'Whether the target is in effect since then'
);

CREATE OR REPLACE VIEW ops.rolled_back_loads (
  load_id COMMENT 'Load whose content was taken away',
  rolled_back_by COMMENT 'The rollback that did it'
) COMMENT 'Loads that are rolled back now, one row a load' AS
SELECT load_id, rolled_back_by FROM (
  SELECT
    coalesce(target_load_id, rolled_back_load_id) AS load_id, max(load_id) AS rolled_back_by,
    max_by(coalesce(in_effect, false), load_id) AS in_effect
  FROM ops.rollbacks GROUP BY coalesce(target_load_id, rolled_back_load_id)
) WHERE NOT in_effect;

CREATE OR REPLACE VIEW quarantine.open_files (
  source_file COMMENT 'Path below the landing place',
  kind COMMENT 'readings or reference',
  reason COMMENT 'Rule that it broke, see docs/rules.md',
  detail COMMENT 'What exactly was wrong, and where',
  size_bytes COMMENT 'Size of the file, bytes',
  load_id COMMENT 'Load that rejected it, see ops.loads',
  load_date COMMENT 'UTC date of the load''s start'
) COMMENT 'Rejected files of which no later version was loaded, rejected or dismissed, one row per file' AS
SELECT rejected.source_file, rejected.kind, rejected.reason, rejected.detail, rejected.size_bytes, rejected.load_id, rejected.load_date
FROM quarantine.files AS rejected
JOIN (
  SELECT source_file, max(load_id) AS load_id FROM ops.load_files WHERE status <> 'unchanged' GROUP BY source_file
) AS newest ON newest.source_file = rejected.source_file AND newest.load_id = rejected.load_id;

CREATE OR REPLACE VIEW quarantine.open_readings (
  source_file COMMENT 'File it stood in, path below the landing place',
  position COMMENT 'Index of the row in the file''s data, from 0',
  reason COMMENT 'Rule that it broke, see docs/rules.md',
  row_json COMMENT 'The row as it was delivered, as a JSON object of column and value',
  meterpoint_id COMMENT 'Meterpoint of the row, null where it cannot be told',
  date COMMENT 'Local date of the row, null where it cannot be told',
  load_id COMMENT 'Load that rejected it, see ops.loads',
  load_date COMMENT 'UTC date of the load''s start'
) COMMENT 'Rejected readings of files of which no later version was loaded, rejected or dismissed, one row per row of a file' AS
SELECT
  rejected.source_file, rejected.position, rejected.reason, rejected.row_json, rejected.meterpoint_id, rejected.date,
  rejected.load_id, rejected.load_date
FROM quarantine.readings AS rejected
JOIN (
  SELECT source_file, max(load_id) AS load_id FROM ops.load_files WHERE status <> 'unchanged' GROUP BY source_file
) AS newest ON newest.source_file = rejected.source_file AND newest.load_id = rejected.load_id;

CREATE OR REPLACE VIEW ops.withheld_files (
  source_file COMMENT 'File, path below the landing place',
  load_id COMMENT 'Load that took its newest version, and was rolled back'
) COMMENT 'Files of which the newest version is withheld by a rollback, one row a file: lake reload reads them again' AS
SELECT newest.source_file, newest.load_id
FROM (
  SELECT source_file, max(load_id) AS load_id FROM ops.load_files
  WHERE status IN ('loaded', 'rejected') AND load_id IN (SELECT load_id FROM ops.loads WHERE status <> 'failed')
  GROUP BY source_file
) AS newest
JOIN ops.rolled_back_loads ON rolled_back_loads.load_id = newest.load_id;
