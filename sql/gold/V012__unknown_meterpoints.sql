-- One row: a meterpoint with readings that the newest reference snapshot does not know: a typing error in its id, a
-- meter that was not registered yet, or somebody else's. kWh.

CREATE OR REPLACE VIEW gold.unknown_meterpoints (
  meterpoint_id COMMENT 'Meterpoint that was read',
  first_date COMMENT 'First local date with readings',
  last_date COMMENT 'Last local date with readings',
  reading_count COMMENT 'Half hours with a reading',
  consumption_kwh COMMENT 'Energy used, kWh'
) COMMENT 'Meterpoints with readings that the newest reference snapshot does not know, one row per meterpoint' AS
SELECT
  daily.meterpoint_id, min(daily.date) AS first_date, max(daily.date) AS last_date, sum(daily.reading_count) AS reading_count,
  sum(daily.consumption_kwh) AS consumption_kwh
FROM mart.daily_meterpoint_consumption AS daily
LEFT JOIN silver.meterpoint ON meterpoint.meterpoint_id = daily.meterpoint_id
WHERE meterpoint.meterpoint_id IS NULL
GROUP BY daily.meterpoint_id;
