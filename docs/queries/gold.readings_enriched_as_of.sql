-- What was known of a meterpoint's day at a moment? The moment is UTC.
SELECT interval_start, consumption_kwh, product_display_name
FROM gold.readings_enriched_as_of(TIMESTAMP '2099-01-01 09:00:00')
WHERE date = DATE '2021-01-02' AND meterpoint_id = '0432df65f7'
ORDER BY interval_start_utc;
