-- One row: an agreement that was active on 1 January 2021. Zero-length agreements never are.
-- By definition of the report an agreement that began on the day itself is left out; for the lakehouse's own
-- rule, [valid_from, valid_to), see gold.readings_enriched.

CREATE SCHEMA IF NOT EXISTS gold
COMMENT 'What analysts and BI tools read: final views'
LOCATION '${warehouse}/gold';

CREATE OR REPLACE VIEW gold.active_agreements (
  agreement_id COMMENT 'Key',
  meterpoint_id COMMENT 'Meterpoint that the agreement supplies',
  product_display_name COMMENT 'Name of the product, its id if it has none',
  is_variable COMMENT 'True if the product''s price may change during the agreement'
) COMMENT 'Agreements active on 1 January 2021, one row per agreement' AS
SELECT
  agreement.agreement_id, agreement.meterpoint_id,
  coalesce(product.display_name, product.product_id) AS product_display_name, product.is_variable
FROM silver.agreement
JOIN silver.product ON product.product_id = agreement.product_id
WHERE agreement.agreement_valid_from < DATE '2021-01-01'
  AND (agreement.agreement_valid_to IS NULL OR agreement.agreement_valid_to > DATE '2021-01-01');

-- The same for any day: SELECT * FROM gold.active_agreements_on(DATE '2021-01-02').
CREATE OR REPLACE FUNCTION gold.active_agreements_on(day DATE COMMENT 'Local date')
RETURNS TABLE (
  agreement_id BIGINT COMMENT 'Key',
  meterpoint_id STRING COMMENT 'Meterpoint that the agreement supplies',
  product_display_name STRING COMMENT 'Name of the product, its id if it has none',
  is_variable BOOLEAN COMMENT 'True if the product''s price may change during the agreement'
)
COMMENT 'Agreements active on a day: agreement_valid_from < day and (agreement_valid_to is null or > day)'
RETURN
SELECT agreement.agreement_id, agreement.meterpoint_id, coalesce(product.display_name, product.product_id), product.is_variable
FROM silver.agreement
JOIN silver.product ON product.product_id = agreement.product_id
WHERE agreement.agreement_valid_from < day
  AND (agreement.agreement_valid_to IS NULL OR agreement.agreement_valid_to > day);
