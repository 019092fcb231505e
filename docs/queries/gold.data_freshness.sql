-- How old are the newest readings and the reference data, in days?
SELECT
  last_reading_date, datediff(current_date(), last_reading_date) AS readings_days,
  snapshot_date, datediff(current_date(), snapshot_date) AS snapshot_days
FROM gold.data_freshness;

-- Do readings and marts agree now, or is a load switching tables?
SELECT publishing_load_id IS NULL AS all_agree, publishing_load_id
FROM gold.data_freshness;

-- What did the newest load bring?
SELECT history.load_id, history.finished_at, history.readings_loaded, history.readings_rejected, history.first_date, history.last_date
FROM gold.data_freshness
JOIN gold.load_history AS history ON history.load_id = data_freshness.last_load_id;
