-- What was put right by a load that was rolled back, or by a run that was killed, is open again.

CREATE OR REPLACE VIEW quarantine.open_files (
  source_file COMMENT 'Path below the landing place',
  kind COMMENT 'readings or reference',
  reason COMMENT 'Rule that it broke, see docs/rules.md',
  detail COMMENT 'What exactly was wrong, and where',
  size_bytes COMMENT 'Size of the file, bytes',
  load_id COMMENT 'Load that rejected it, see ops.loads',
  load_date COMMENT 'UTC date of the load''s start'
) COMMENT 'Rejected files of which no later version that counts was loaded, rejected or dismissed, one row per file' AS
SELECT
  rejected.source_file, rejected.kind, rejected.reason, rejected.detail, rejected.size_bytes, rejected.load_id,
  to_date(substr(rejected.load_id, 1, 8), 'yyyyMMdd') AS load_date
FROM quarantine.files AS rejected
JOIN (
  SELECT source_file, max(load_id) AS load_id
  FROM ops.load_files LEFT SEMI JOIN ops.loads USING (load_id) LEFT ANTI JOIN ops.rolled_back_loads USING (load_id)
  WHERE status <> 'unchanged' GROUP BY source_file
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
) COMMENT 'Rejected readings of files of which no later version that counts was loaded, rejected or dismissed, one row per row of a file' AS
SELECT
  rejected.source_file, rejected.position, rejected.reason, rejected.row_json, rejected.meterpoint_id, rejected.date,
  rejected.load_id, to_date(substr(rejected.load_id, 1, 8), 'yyyyMMdd') AS load_date
FROM quarantine.readings AS rejected
JOIN (
  SELECT source_file, max(load_id) AS load_id
  FROM ops.load_files LEFT SEMI JOIN ops.loads USING (load_id) LEFT ANTI JOIN ops.rolled_back_loads USING (load_id)
  WHERE status <> 'unchanged' GROUP BY source_file
) AS newest ON newest.source_file = rejected.source_file AND newest.load_id = rejected.load_id;
