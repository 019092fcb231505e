-- One row: a half hour with at least one reading. All meterpoints, with an agreement or not. kWh.

CREATE OR REPLACE VIEW gold.half_hourly_consumption (
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  date COMMENT 'Local date of interval_start',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading',
  consumption_kwh COMMENT 'Energy used by all of them, kWh'
) COMMENT 'Consumption of all meterpoints, one row per half hour' AS
SELECT interval_start, interval_start_utc, date, meterpoint_count, consumption_kwh
FROM mart.half_hourly_consumption;
