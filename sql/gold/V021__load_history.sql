-- The kinds that came later.

-- One row: a load, newest first when ordered by started_at. Times are UTC.

CREATE OR REPLACE VIEW gold.load_history (
  load_id COMMENT 'Key',
  status COMMENT 'published; failed: readers keep what they had, and its files are read again; rejected: every file was; rolled back: taken away again, see rolled_back_by; rollback: it undid another one',
  started_at COMMENT 'Start of the load, UTC',
  finished_at COMMENT 'End of the load, UTC',
  files_loaded COMMENT 'Readings files of which at least the form was good',
  files_rejected COMMENT 'Files in quarantine',
  readings_loaded COMMENT 'Rows of input files that passed every rule',
  readings_rejected COMMENT 'Rows of input files in quarantine',
  dates_published COMMENT 'Dates of readings that were switched to new content',
  first_date COMMENT 'First local date of readings switched, null if none',
  last_date COMMENT 'Last local date of readings switched, null if none',
  snapshot_date COMMENT 'Date of the reference snapshot that the load brought, null if none',
  warnings COMMENT 'Failed warning expectations',
  error COMMENT 'Why the load, or its reference file, failed; null if nothing did',
  kind COMMENT 'load; retract, reload, rebuild, erase: a person asked for it; rollback; dismiss: of quarantine entries; upgrade: what an older version lacks; expire: what is kept no longer',
  accepted COMMENT 'What a person let pass with --accept',
  warnings_by_name COMMENT 'What was noticed in the files, and how often',
  stage_seconds COMMENT 'Seconds that each stage took',
  rolled_back_by COMMENT 'Rollback that took it away, null if it is in effect'
) COMMENT 'Loads, one row a load' AS
SELECT
  loads.load_id, if(rolled_back.load_id IS NULL, loads.status, 'rolled back') AS status, loads.started_at, loads.finished_at,
  loads.files_loaded, loads.files_rejected, loads.readings_loaded, loads.readings_rejected,
  loads.dates_published, loads.first_date, loads.last_date, loads.snapshot_date, loads.warnings, loads.error,
  coalesce(loads.kind, if(loads.status = 'rollback', 'rollback', 'load')) AS kind, loads.accepted, loads.warnings_by_name, loads.stage_seconds,
  rolled_back.rolled_back_by
FROM ops.loads AS loads
LEFT JOIN ops.rolled_back_loads AS rolled_back ON rolled_back.load_id = loads.load_id;
