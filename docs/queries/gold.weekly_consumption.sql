-- How much energy did each product use?
SELECT week_start, product_display_name, sum(consumption_kwh) AS consumption_kwh
FROM gold.weekly_consumption
GROUP BY week_start, product_display_name
ORDER BY week_start, consumption_kwh DESC;

-- What did a meterpoint use on an average day?
SELECT week_start, sum(consumption_kwh) / nullif(sum(meterpoint_days), 0) AS kwh_a_meterpoint_and_day
FROM gold.weekly_consumption
GROUP BY week_start
ORDER BY week_start;

-- Are all days loaded, and are they complete? Fewer days, or a lower share, make a lower sum.
SELECT week_start, max(day_count) AS days, sum(received_readings) / nullif(sum(expected_readings), 0) AS received_share
FROM gold.weekly_consumption
GROUP BY week_start
ORDER BY week_start;
