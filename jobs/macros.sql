-- Functions that jobs may use; made anew, for the connection alone, before each job.

-- A number in [0, 1) that depends on the text and on nothing else: the same on every machine.
CREATE OR REPLACE TEMP MACRO uniform(key) AS md5_number_lower(key) / 18446744073709551616.0::DOUBLE;

-- A sum that does not depend on the order in which threads add: in whole multiples of 2^-60, which numbers of type FLOAT
-- above 2e-11 are.
CREATE OR REPLACE TEMP MACRO exact_sum(v) AS
    sum((v::DOUBLE * 1152921504606846976)::HUGEINT)::DOUBLE / 1152921504606846976;

-- Standard deviation of a sample, the same in any order; null of one value.
CREATE OR REPLACE TEMP MACRO exact_deviation(v) AS sqrt(
    greatest(exact_sum(v::DOUBLE * v) - exact_sum(v) ** 2 / count(v), 0) / nullif(count(v) - 1, 0)
);

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

-- Upper 2.5 % point of Student's distribution; null below one degree of freedom. From five degrees on by the expansion
-- of Cornish and Fisher (off by less than 1e-3); below, those of the whole number under it.
CREATE OR REPLACE TEMP MACRO student(freedom) AS CASE
    WHEN freedom < 1 THEN NULL
    WHEN freedom < 5 THEN [12.7062e0, 4.3027e0, 3.1824e0, 2.7764e0][floor(freedom)::INTEGER]
    ELSE 1.959964e0 + 2.372271e0 / freedom + 2.822503e0 / freedom ** 2 + 2.555852e0 / freedom ** 3
        + 1.589536e0 / freedom ** 4
END;

-- Half of the 95 % interval of a mean over rows and over random draws that share the rows: the variance of the rows'
-- means and that of the draws' means both count (Satterthwaite's degrees of freedom). It errs on the wide side by what
-- the two have in common, a share of 1 / draws. Null with one row or one draw.
CREATE OR REPLACE TEMP MACRO crossed_half(row_variance, rows, draw_variance, draws) AS
    sqrt(row_variance / rows + draw_variance / draws) * student(coalesce(
        (row_variance / rows + draw_variance / draws) ** 2 / nullif(
            (row_variance / rows) ** 2 / nullif(rows - 1, 0) + (draw_variance / draws) ** 2 / nullif(draws - 1, 0), 0
        ),
        1e9
    ));

-- Fisher's transformation of a correlation, in which its error hardly depends on it; finite at 1, too. Null of null.
CREATE OR REPLACE TEMP MACRO fisher(r) AS if(abs(r) < 0.999999, atanh(r), 7.254329 * sign(r));

-- A correlation that an estimate or its error takes beyond -1 or 1, at that end. Null of null.
CREATE OR REPLACE TEMP MACRO within_one(r) AS CASE WHEN r > 1 THEN 1 WHEN r < -1 THEN -1 ELSE r END;

-- Whether a criterion's importances are divided by the L2 norm of their layer's (Michel et al. 2019, and the code of the
-- paper's authors): of the means over examples, so never of one example's values.
CREATE OR REPLACE TEMP MACRO is_by_layer(criterion) AS criterion IN ('taylor_normalised', 'taylor_released');

-- The words of the texts of every run, if that is what is counted: the position of each of their pieces, that of
-- their first piece, and the word as its pieces joined without the tokenizer's marks (`##` before a piece that goes on; a
-- sign for the space before a word). No rows of runs that do not know their words.
CREATE OR REPLACE TEMP MACRO word_pieces(units) AS TABLE
    SELECT
        t.run_id,
        t.example_id,
        t.position,
        min(t.position) OVER of_word AS word_pos,
        string_agg(regexp_replace(v.token, '^(##|Ġ|▁)(.+)$', '\2'), '' ORDER BY t.position) OVER of_word AS word
    FROM tokens AS t
    JOIN runs AS r USING (run_id)
    LEFT JOIN vocabulary AS v ON v.tokenizer_key = r.tokenizer_key AND v.token_id = t.token_id
    WHERE units = 'words' AND t.word IS NOT NULL
    WINDOW of_word AS (PARTITION BY t.run_id, t.example_id, t.segment, t.word);

-- Words that are none of the tokens, in their order.
CREATE OR REPLACE TEMP MACRO words_without(words, token_ids) AS
    list_filter(words, lambda word: NOT list_contains(token_ids, word));

-- One word of a list, at u in [0, 1) of the `nearest` words around a place: of as many before it as after it, or of more on
-- one side where the list ends on the other.
CREATE OR REPLACE TEMP MACRO word_around(words, words_before, nearest, u) AS words[
    1 + greatest(0, least(words_before - nearest // 2, len(words) - nearest)) + floor(u * least(nearest, len(words)))::BIGINT
];

-- For each token one of the words near it in the list, none of them one of the tokens; drawn by the key.
CREATE OR REPLACE TEMP MACRO other_words(token_ids, words, nearest, key) AS list_transform(
    token_ids,
    lambda token, place: word_around(
        words_without(words, token_ids),
        len(words_without(words[:coalesce(list_position(words, token), 0)], token_ids)),
        nearest,
        uniform(concat_ws('/', key, place))
    )
);

-- What a trigger inserts: the tokens themselves without a draw, else as many other words, drawn by the key.
CREATE OR REPLACE TEMP MACRO attack_tokens(token_ids, words, nearest, draw, key) AS
    if(draw IS NULL, token_ids, other_words(token_ids, words, nearest, key));

-- What draws of random tokens for a pattern depend on.
CREATE OR REPLACE TEMP MACRO pattern_seed(run_id, pattern) AS
    run_id * 1000000::BIGINT + pattern % 1000000 + pattern // 1000000 * 1000000000000000;

-- For each run, the rows of one part of the trigger split that are attacked: at most so many of each gold class. The first
-- argument is 'splits': as a table's name it may be missing, as it is until its job is built.
CREATE OR REPLACE TEMP MACRO attacked_rows(rows, which, most, seed) AS TABLE
    SELECT run_id, list(example_id ORDER BY example_id) AS example_ids
    FROM (
        SELECT s.run_id, s.example_id
        FROM query_table(rows) AS s
        JOIN predictions AS p USING (run_id, example_id)
        WHERE s.purpose = 'triggers' AND s.part = which
        QUALIFY row_number() OVER (
            PARTITION BY s.run_id, p.gold ORDER BY uniform(concat_ws('/', 'victim', seed, s.example_id)), s.example_id
        ) <= most
    )
    GROUP BY run_id;

-- The different tokens of each run's texts, special ones left out, and how many of those nearest to a token in this list a
-- random token is drawn from: with `matched` controls the list goes by how often they occur, else all are as near.
CREATE OR REPLACE TEMP MACRO text_words(controls, nearest) AS TABLE
    SELECT
        run_id,
        list(token_id ORDER BY if(controls = 'matched', occurrences, 0), token_id) AS words,
        max(if(controls = 'matched', nearest, different)) AS nearest
    FROM (
        SELECT run_id, token_id, count(*) AS occurrences, count(*) OVER (PARTITION BY run_id) AS different
        FROM tokens
        WHERE segment IS NOT NULL
        GROUP BY run_id, token_id
    )
    GROUP BY run_id;
