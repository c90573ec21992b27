-- name: runs
-- description: Every run with its labels, the size of its model, and the classes that it attributes.
SELECT
    run_id,
    name,
    labels,
    n_layers,
    n_heads,
    if(targets = 'both', ['gold', 'predicted'], [targets]) AS classes
FROM runs
ORDER BY run_id
