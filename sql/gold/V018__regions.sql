-- Consumption by region and by calendar periods. Region: as it was on the date, see silver.meterpoint_regions. kWh, local dates.

-- One row: a region's half hour, in which a meterpoint of it was read or has an agreement. Over the regions, kWh and meterpoints
-- add up to gold.half_hourly_consumption.
-- SELECT region, hour(interval_start) AS hour, sum(consumption_kwh) AS kwh FROM gold.half_hourly_region_consumption
-- WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31' GROUP BY ALL ORDER BY ALL
CREATE OR REPLACE VIEW gold.half_hourly_region_consumption (
  region COMMENT 'Region of the meterpoints on the date, null: no snapshot names one',
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  date COMMENT 'Local date of interval_start',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading, with an agreement or not',
  consumption_kwh COMMENT 'Energy used by them, kWh; null if none was read',
  expected_readings COMMENT 'Meterpoints with an agreement on the date',
  received_readings COMMENT 'Those of them with a reading',
  received_share COMMENT 'received_readings by expected_readings, 0 to 1; null where no half hour is expected',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one'
) COMMENT 'Consumption by region, one row per region and half hour' AS
SELECT
  region, interval_start, interval_start_utc, date, meterpoint_count, consumption_kwh, expected_readings, received_readings,
  CAST(received_readings / nullif(expected_readings, 0) AS DECIMAL(9,6)) AS received_share,
  CAST(actual_readings / nullif(rated_readings, 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.half_hourly_by_region;

-- One row: a local date, a region and a product, of which a meterpoint was read or has an agreement. Over all rows of a date,
-- kWh add up to gold.half_hourly_consumption.
-- SELECT region, sum(consumption_kwh) AS kwh, sum(received_readings) / sum(expected_readings) AS received
-- FROM gold.daily_region_consumption WHERE date = DATE '2021-01-01' GROUP BY region
CREATE OR REPLACE VIEW gold.daily_region_consumption (
  region COMMENT 'Region of the meterpoints on the date, null: no snapshot names one',
  product_display_name COMMENT 'Name of the product, null: without an agreement on the date',
  date COMMENT 'Local date',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading',
  consumption_kwh COMMENT 'Energy used by them, kWh; null if none was read',
  expected_readings COMMENT 'Half hours of meterpoints with an agreement; 0 without a product',
  received_readings COMMENT 'Those of them with a reading',
  received_share COMMENT 'received_readings by expected_readings, 0 to 1; null where no half hour is expected',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built'
) COMMENT 'Consumption by region and product, one row per region, product name and date' AS
SELECT
  region, product_display_name, date, meterpoint_count, consumption_kwh, expected_readings, received_readings,
  CAST(received_readings / nullif(expected_readings, 0) AS DECIMAL(9,6)) AS received_share,
  CAST(actual_readings / nullif(rated_readings, 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.daily_by_product_and_region;

-- One row: an ISO week, Monday to Sunday of local dates, a product and a region. Meterpoints of several days cannot be told apart in a sum of days, so there are
-- meterpoint_days and no number of meterpoints.
-- SELECT iso_year, iso_week, sum(consumption_kwh) AS kwh FROM gold.weekly_consumption GROUP BY ALL ORDER BY ALL
CREATE OR REPLACE VIEW gold.weekly_consumption (
  week_start COMMENT 'Monday of the ISO week, local date',
  iso_year COMMENT 'Year of the ISO week; around New Year not that of every date',
  iso_week COMMENT 'Number of the ISO week, 1 to 53',
  product_display_name COMMENT 'Name of the product, null: without an agreement on the date',
  region COMMENT 'Region of the meterpoints on each date, null: no snapshot names one',
  day_count COMMENT 'Local dates with a reading of them; fewer than the calendar has, as long as not all are loaded',
  meterpoint_days COMMENT 'Meterpoints with a reading, added up over the dates',
  consumption_kwh COMMENT 'Energy used by them, kWh; null if none was read',
  expected_readings COMMENT 'Half hours of meterpoints with an agreement, on dates on which anybody was read; 0 without a product',
  received_readings COMMENT 'Those of them with a reading',
  received_share COMMENT 'received_readings by expected_readings, 0 to 1; null where no half hour is expected',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built'
) COMMENT 'Consumption by product and region, one row per ISO week, product name and region' AS
SELECT
  CAST(date_trunc('WEEK', date) AS DATE) AS week_start, extract(YEAROFWEEK FROM date) AS iso_year, extract(WEEK FROM date) AS iso_week, product_display_name, region, count_if(meterpoint_count > 0) AS day_count, sum(meterpoint_count) AS meterpoint_days,
  CAST(sum(consumption_kwh) AS DECIMAL(18,6)) AS consumption_kwh,
  sum(expected_readings) AS expected_readings, sum(received_readings) AS received_readings,
  CAST(sum(received_readings) / nullif(sum(expected_readings), 0) AS DECIMAL(9,6)) AS received_share,
  CAST(sum(actual_readings) / nullif(sum(rated_readings), 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.daily_by_product_and_region
GROUP BY ALL;

-- One row: a month of local dates, a product and a region. Meterpoints of several days cannot be told apart in a sum of days, so there are
-- meterpoint_days and no number of meterpoints.
-- SELECT month, region, sum(consumption_kwh) AS kwh FROM gold.monthly_consumption WHERE month >= DATE '2021-01-01' GROUP BY ALL
CREATE OR REPLACE VIEW gold.monthly_consumption (
  month COMMENT 'First local date of the month',
  product_display_name COMMENT 'Name of the product, null: without an agreement on the date',
  region COMMENT 'Region of the meterpoints on each date, null: no snapshot names one',
  day_count COMMENT 'Local dates with a reading of them; fewer than the calendar has, as long as not all are loaded',
  meterpoint_days COMMENT 'Meterpoints with a reading, added up over the dates',
  consumption_kwh COMMENT 'Energy used by them, kWh; null if none was read',
  expected_readings COMMENT 'Half hours of meterpoints with an agreement, on dates on which anybody was read; 0 without a product',
  received_readings COMMENT 'Those of them with a reading',
  received_share COMMENT 'received_readings by expected_readings, 0 to 1; null where no half hour is expected',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built'
) COMMENT 'Consumption by product and region, one row per month of local dates, product name and region' AS
SELECT
  CAST(date_trunc('MONTH', date) AS DATE) AS month, product_display_name, region, count_if(meterpoint_count > 0) AS day_count, sum(meterpoint_count) AS meterpoint_days,
  CAST(sum(consumption_kwh) AS DECIMAL(18,6)) AS consumption_kwh,
  sum(expected_readings) AS expected_readings, sum(received_readings) AS received_readings,
  CAST(sum(received_readings) / nullif(sum(expected_readings), 0) AS DECIMAL(9,6)) AS received_share,
  CAST(sum(actual_readings) / nullif(sum(rated_readings), 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.daily_by_product_and_region
GROUP BY ALL;

-- One row: a meterpoint and local date, with an agreement or a reading, on which anybody was read.
-- SELECT date, consumption_kwh, max_kwh FROM gold.meterpoint_daily
-- WHERE meterpoint_id = '0432df65f7' AND date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31' ORDER BY date
CREATE OR REPLACE VIEW gold.meterpoint_daily (
  meterpoint_id COMMENT 'Meterpoint with an agreement or a reading on the date',
  date COMMENT 'Local date',
  region COMMENT 'Region of the meterpoint on the date, null: no snapshot names one',
  product_display_name COMMENT 'Name of the product, null: without an agreement on the date',
  consumption_kwh COMMENT 'Energy used on the date, kWh; null if it was not read',
  expected_readings COMMENT 'Half hours of the date: 48, in March 46, in October 50; null if the mart is of an older version',
  received_readings COMMENT 'Half hours with a reading',
  received_share COMMENT 'received_readings by expected_readings, 0 to 1',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built',
  min_kwh COMMENT 'Least energy of a half hour, kWh; null without readings, or on dates that an older version built',
  max_kwh COMMENT 'Most energy of a half hour, kWh; null without readings, or on dates that an older version built',
  average_kwh COMMENT 'Energy of a half hour on average, of those received, kWh; null without readings'
) COMMENT 'Profile of a meterpoint by day, one row per meterpoint and date' AS
SELECT
  daily.meterpoint_id, daily.date, regions.region, daily.product_display_name, daily.consumption_kwh, daily.expected_readings,
  daily.reading_count AS received_readings,
  CAST(daily.reading_count / nullif(daily.expected_readings, 0) AS DECIMAL(9,6)) AS received_share,
  CAST(daily.actual_readings / nullif(daily.rated_readings, 0) AS DECIMAL(9,6)) AS actual_share,
  daily.min_kwh, daily.max_kwh,
  CAST(daily.consumption_kwh / nullif(daily.reading_count, 0) AS DECIMAL(9,6)) AS average_kwh
FROM mart.daily_meterpoint_consumption AS daily
LEFT JOIN silver.meterpoint_regions AS regions
  ON regions.meterpoint_id = daily.meterpoint_id
  AND (regions.valid_from IS NULL OR daily.date >= regions.valid_from) AND (regions.valid_to IS NULL OR daily.date < regions.valid_to);

-- One row: a reading, with the agreement that held at its start, its product and its region. kWh.
-- An agreement holds on [valid_from, valid_to); where two hold, the one with the later valid_from, then the higher id.
-- Readings without an agreement are here too, with nulls. Since this version the region is that of the date.
CREATE OR REPLACE VIEW gold.readings_enriched (
  meterpoint_id COMMENT 'Meterpoint that was read',
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  date COMMENT 'Local date of interval_start',
  consumption_kwh COMMENT 'Energy used in the half hour, kWh',
  region COMMENT 'Region of the meterpoint on the date, null: no snapshot names one',
  agreement_id COMMENT 'Agreement that held, null if none did',
  account_id COMMENT 'Account of the agreement, null if none held',
  product_id COMMENT 'Product of the agreement, null if none held',
  product_display_name COMMENT 'Name of the product, null if no agreement held',
  is_variable COMMENT 'True if the product''s price may change, null if no agreement held',
  reading_quality COMMENT 'A: actual, E: estimated, or the sender''s own word; null if the file says nothing'
) COMMENT 'Readings with agreement, product and region, one row per meterpoint and half hour' AS
SELECT
  readings.meterpoint_id, readings.interval_start, readings.interval_start_utc, readings.date, readings.consumption_kwh,
  regions.region,
  daily.agreement_id, daily.account_id, daily.product_id, daily.product_display_name, daily.is_variable,
  readings.reading_quality
FROM silver.readings
LEFT JOIN mart.daily_meterpoint_consumption AS daily
  ON daily.meterpoint_id = readings.meterpoint_id AND daily.date = readings.date
LEFT JOIN silver.meterpoint_regions AS regions
  ON regions.meterpoint_id = readings.meterpoint_id
  AND (regions.valid_from IS NULL OR readings.date >= regions.valid_from)
  AND (regions.valid_to IS NULL OR readings.date < regions.valid_to);
