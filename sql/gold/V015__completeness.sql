-- What is missing. Dates on which nobody was read at all have no rows.

-- One row: a meterpoint and local date, with an agreement or a reading, on which anybody was read.
CREATE OR REPLACE VIEW gold.meterpoint_day_completeness (
  meterpoint_id COMMENT 'Meterpoint with an agreement or a reading on the date',
  date COMMENT 'Local date',
  expected_readings COMMENT 'Half hours of the date: 48, in March 46, in October 50',
  received_readings COMMENT 'Half hours with a reading',
  missing_readings COMMENT 'Half hours without one',
  first_missing COMMENT 'Start of the first of them, local wall-clock time (Europe/London); null if none is missing',
  last_missing COMMENT 'Start of the last of them, local wall-clock time (Europe/London); null if none is missing',
  agreement_id COMMENT 'Agreement that held on the date, null if none did',
  product_display_name COMMENT 'Name of its product'
) COMMENT 'Which half hours are missing, one row per meterpoint and date' AS
SELECT
  meterpoint_id, date, expected_readings, reading_count, expected_readings - reading_count AS missing_readings, first_missing, last_missing,
  agreement_id, product_display_name
FROM mart.daily_meterpoint_consumption
WHERE expected_readings IS NOT NULL;

-- One row: a local date on which anybody was read.
CREATE OR REPLACE VIEW gold.daily_completeness (
  date COMMENT 'Local date',
  meterpoint_count COMMENT 'Meterpoints with an agreement or a reading on the date',
  complete_meterpoints COMMENT 'Those of them with a reading of every half hour',
  silent_meterpoints COMMENT 'Those of them without any reading',
  expected_readings COMMENT 'Half hours of the date (48, in March 46, in October 50) times meterpoint_count',
  received_readings COMMENT 'Half hours with a reading, of all of them',
  received_share COMMENT 'received_readings by expected_readings, 0 to 1'
) COMMENT 'How complete the readings are, one row per date' AS
SELECT
  date, meterpoint_count, complete_meterpoints, silent_meterpoints, expected_readings, received_readings,
  CAST(received_readings / expected_readings AS DECIMAL(9,6)) AS received_share
FROM mart.daily_completeness;

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
WHERE meterpoint.meterpoint_id IS NULL AND daily.reading_count > 0
GROUP BY daily.meterpoint_id;
