-- What did one meterpoint use on a day, and under which product?
SELECT interval_start, consumption_kwh, product_display_name, region
FROM gold.readings_enriched
WHERE date = DATE '2021-01-02' AND meterpoint_id = '0432df65f7'
ORDER BY interval_start_utc;

-- How much energy did each region use, day by day?
SELECT region, date, count(DISTINCT meterpoint_id) AS meterpoints, sum(consumption_kwh) AS consumption_kwh
FROM gold.readings_enriched
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY region, date
ORDER BY region, date;

-- How many readings are actual, and how many estimated? Not every sender tells.
SELECT date, coalesce(reading_quality, 'not told') AS quality, count(*) AS readings, sum(consumption_kwh) AS consumption_kwh
FROM gold.readings_enriched
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY ALL
ORDER BY date, quality;
