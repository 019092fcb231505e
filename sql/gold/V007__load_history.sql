-- One row: a load, newest first when ordered by started_at. Times are UTC.

CREATE OR REPLACE VIEW gold.load_history (
  load_id COMMENT 'Key',
  status COMMENT 'published; failed: a critical expectation stopped it, readers keep what they had',
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
  error COMMENT 'Why the load, or its reference file, failed; null if nothing did'
) COMMENT 'Loads, one row a load' AS
SELECT
  load_id, status, started_at, finished_at, files_loaded, files_rejected, readings_loaded, readings_rejected,
  dates_published, first_date, last_date, snapshot_date, warnings, error
FROM ops.loads;
