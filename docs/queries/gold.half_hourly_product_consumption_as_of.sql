-- How did an average meterpoint of each product run through a day, as it was known at a moment? The moment is UTC.
SELECT product_display_name, interval_start, average_kwh
FROM gold.half_hourly_product_consumption_as_of(TIMESTAMP '2099-01-01 09:00:00')
WHERE date = DATE '2021-01-01'
ORDER BY product_display_name, interval_start_utc;
