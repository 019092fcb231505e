-- One row: how new the published data is, and whether tables are being switched. Local dates are Europe/London.

CREATE OR REPLACE VIEW gold.data_freshness (
  last_reading_date COMMENT 'Newest local date with readings; later ones than today are a fault of a clock, and do not count',
  last_reading_utc COMMENT 'Start of the newest half hour with readings, UTC; as above',
  snapshot_date COMMENT 'Local date of the reference snapshot in use',
  last_load_id COMMENT 'Newest load that is in effect and changed a table',
  last_load_finished_at COMMENT 'When it ended, UTC',
  publishing_load_id COMMENT 'Load that is switching tables now, or was killed while it did: readings and marts may be of different loads; null if all agree'
) COMMENT 'How new the published data is, one row' AS
SELECT
  newest.date, newest.interval_start_utc,
  snapshot.snapshot_date,
  load.load_id, load.finished_at,
  publishing.load_id
FROM (
  SELECT max(date) AS date, max(interval_start_utc) AS interval_start_utc FROM mart.half_hourly_consumption
  WHERE interval_start_utc <= current_timestamp()
) AS newest
CROSS JOIN (SELECT max(snapshot_date) AS snapshot_date FROM silver.current_snapshot) AS snapshot
CROSS JOIN (
  SELECT max(load_id) AS load_id, max_by(finished_at, load_id) AS finished_at
  FROM ops.loads
  WHERE status = 'published' AND (dates_published > 0 OR mart_dates_published > 0 OR snapshot_date IS NOT NULL)
    AND load_id NOT IN (SELECT load_id FROM ops.rolled_back_loads)
) AS load
CROSS JOIN (
  SELECT max(load_id) AS load_id FROM ops.publishing WHERE load_id NOT IN (SELECT load_id FROM ops.loads)
) AS publishing;
