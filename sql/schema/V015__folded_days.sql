-- Days of loads that are over are folded into months and years (jobs/compact.py): load_date, by which these tables are
-- partitioned, is the last day of what is folded. What people are shown is still the day of the load, by its id.

CREATE OR REPLACE VIEW quarantine.open_files (
  source_file COMMENT 'Path below the landing place',
  kind COMMENT 'readings or reference',
  reason COMMENT 'Rule that it broke, see docs/rules.md',
  detail COMMENT 'What exactly was wrong, and where',
  size_bytes COMMENT 'Size of the file, bytes',
  load_id COMMENT 'Load that rejected it, see ops.loads',
  load_date COMMENT 'UTC date of the load''s start'
) COMMENT 'Rejected files of which no later version was loaded, rejected or dismissed, one row per file' AS
SELECT
  rejected.source_file, rejected.kind, rejected.reason, rejected.detail, rejected.size_bytes, rejected.load_id,
  to_date(substr(rejected.load_id, 1, 8), 'yyyyMMdd') AS load_date
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
  rejected.load_id, to_date(substr(rejected.load_id, 1, 8), 'yyyyMMdd') AS load_date
FROM quarantine.readings AS rejected
JOIN (
  SELECT source_file, max(load_id) AS load_id FROM ops.load_files WHERE status <> 'unchanged' GROUP BY source_file
) AS newest ON newest.source_file = rejected.source_file AND newest.load_id = rejected.load_id;

CREATE OR REPLACE VIEW quarantine.open_reference (
  source_file COMMENT 'File it stood in, path below the landing place',
  table_name COMMENT 'agreement, product or meterpoint',
  row_number COMMENT 'Its rowid; the place of the row, from 1, in a view or a table without',
  reason COMMENT 'Rule that it broke, see docs/rules.md',
  detail COMMENT 'What exactly was wrong, and where',
  row_json COMMENT 'The row as the file has it, as a JSON object of column and value',
  load_id COMMENT 'Load that left it out, see ops.loads',
  load_date COMMENT 'UTC date of the load''s start'
) COMMENT 'Rejected rows of the reference file that is shown, one row per row' AS
SELECT
  source_file, table_name, row_number, reason, detail, row_json, load_id,
  to_date(substr(load_id, 1, 8), 'yyyyMMdd') AS load_date
FROM quarantine.reference
WHERE load_id = (SELECT max(load_id) FROM silver.current_snapshot);
