-- Functions that jobs may use; made anew, for the connection alone, before each job.

-- A number in [0, 1) that depends on the text and on nothing else: the same on every machine.
CREATE OR REPLACE TEMP MACRO uniform(key) AS md5_number_lower(key) / 18446744073709551616.0::DOUBLE;

-- How often a bootstrap replicate draws a unit: Poisson with mean 1, from a number in [0, 1).
CREATE OR REPLACE TEMP MACRO poisson_weight(u) AS (u >= 0.36787944117144233)::TINYINT
    + (u >= 0.7357588823428847)::TINYINT + (u >= 0.9196986029286058)::TINYINT
    + (u >= 0.9810118431238462)::TINYINT + (u >= 0.9963401531726563)::TINYINT
    + (u >= 0.9994058151824183)::TINYINT + (u >= 0.9999167588507119)::TINYINT;

-- Ends of the 95 % Wilson interval of k successes in n trials; null without trials.
CREATE OR REPLACE TEMP MACRO wilson_low(k, n) AS if(n > 0, greatest(0,
    (k + 1.9207294 - 1.959964 * sqrt(k * (n - k) / n + 0.9603647)) / (n + 3.8414588)), NULL);
CREATE OR REPLACE TEMP MACRO wilson_high(k, n) AS if(n > 0, least(1,
    (k + 1.9207294 + 1.959964 * sqrt(k * (n - k) / n + 0.9603647)) / (n + 3.8414588)), NULL);

-- As many of the words as there are tokens, none of them one of the tokens; drawn by the key.
CREATE OR REPLACE TEMP MACRO other_words(token_ids, words, key) AS list_transform(
    token_ids,
    lambda token, place: list_filter(words, lambda word: NOT list_contains(token_ids, word))[
        1 + floor(
            uniform(concat_ws('/', key, place))
            * len(list_filter(words, lambda word: NOT list_contains(token_ids, word)))
        )::INTEGER
    ]
);
