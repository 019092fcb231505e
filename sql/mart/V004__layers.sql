-- The one mart by meterpoint in layers, see sql/schema/V014.

CREATE TABLE IF NOT EXISTS mart.daily_meterpoint_consumption_by_layer (
  meterpoint_id STRING COMMENT 'Meterpoint that was read, or has an agreement',
  agreement_id BIGINT COMMENT 'Agreement that held on the date, null if none did; of several, that with the latest agreement_valid_from, then the highest agreement_id',
  product_id STRING COMMENT 'Product of the agreement, null if none held',
  product_display_name STRING COMMENT 'Name of the product, null if no agreement held',
  is_variable BOOLEAN COMMENT 'True if the product''s price may change, null if no agreement held',
  account_id STRING COMMENT 'Account of the agreement, null if none held',
  reading_count INT COMMENT 'Half hours with a reading; a full date has 48, in March 46, in October 50; null in the late row of a meterpoint that has none, and no agreement, any more',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used on the date, kWh; null without readings',
  expected_readings INT COMMENT 'Half hours of the date: 48, in March 46, in October 50; null if the mart is of an older version',
  first_missing TIMESTAMP COMMENT 'Start of the first half hour without a reading, local wall-clock time (Europe/London); null if none is missing',
  last_missing TIMESTAMP COMMENT 'Start of the last half hour without a reading, local wall-clock time (Europe/London); null if none is missing',
  actual_readings INT COMMENT 'Readings with the quality A; null if the mart is of an older version',
  rated_readings INT COMMENT 'Readings with any quality; null if the mart is of an older version',
  min_kwh DECIMAL(9,6) COMMENT 'Least energy of a half hour of the date, kWh; null without readings, or if the mart is of an older version',
  max_kwh DECIMAL(9,6) COMMENT 'Most energy of a half hour of the date, kWh; null without readings, or if the mart is of an older version',
  date DATE COMMENT 'Local date',
  layer STRING COMMENT 'base, or late: meterpoints of the date that were built anew since the base was written'
) USING parquet PARTITIONED BY (date, layer)
COMMENT 'How mart.daily_meterpoint_consumption is stored; query that one'
LOCATION '${warehouse}/mart/daily_meterpoint_consumption';
