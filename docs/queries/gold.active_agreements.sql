-- How many agreements of each product were active on 1 January 2021?
SELECT product_display_name, count(*) AS agreements
FROM gold.active_agreements
GROUP BY product_display_name
ORDER BY agreements DESC;

-- How many of them have a price that may change?
SELECT is_variable, count(*) AS agreements
FROM gold.active_agreements
GROUP BY is_variable;

-- Which meterpoints have more than one active agreement? The source database must say which one is right.
SELECT meterpoint_id, count(*) AS agreements, array_join(collect_set(product_display_name), ', ') AS products
FROM gold.active_agreements
GROUP BY meterpoint_id
HAVING count(*) > 1;
