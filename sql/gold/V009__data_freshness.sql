-- One row: how new the published data is, and whether tables are being switched. Local dates are Europe/London.

CREATE OR REPLACE VIEW gold.data_freshness (
  last_reading_date COMMENT 'Newest local date with readings',
  last_reading_utc COMMENT 'Start of the newest half hour with readings, UTC',
  snapshot_date COMMENT 'Local date of the reference snapshot in use',
  last_load_id COMMENT 'Newest published load',
  last_load_finished_at COMMENT 'When the newest published load ended, UTC',
  publishing_load_id COMMENT 'Load that is switching tables now, or was killed while it did: readings and marts may be of different loads; null if all agree'
) COMMENT 'How new the published data is, one row' AS
SELECT
  newest.date, newest.interval_start_utc,
  snapshot.snapshot_date,
  load.load_id, load.finished_at,
  publishing.load_id
FROM (SELECT max(date) AS date, max(interval_start_utc) AS interval_start_utc FROM mart.half_hourly_consumption) AS newest
CROSS JOIN (SELECT max(snapshot_date) AS snapshot_date FROM silver.current_snapshot) AS snapshot
CROSS JOIN (
  SELECT max_by(load_id, started_at) AS load_id, max_by(finished_at, started_at) AS finished_at
  FROM ops.loads WHERE status <> 'failed'
) AS load
CROSS JOIN (
  SELECT max(load_id) AS load_id FROM ops.publishing WHERE load_id NOT IN (SELECT load_id FROM ops.loads)
) AS publishing;
