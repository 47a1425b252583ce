"""What every attack of the catalogue sees: the original and Golds apart, its attainable margin, its cost.

    python -m benchmarks.attack_catalogue --store FOLDER [--worlds "ml-100k bpr-mf"] [--attacks lira neighbour]
        [--train-only] [--out docs/measured-attacks.md]

Audits are drawn from one pool of trained systems a world: originals, Golds and references at random, in the sizes of each
profile. Another original and Golds that were not drawn are then read. Trained systems and the answers to every probe are
kept in the store, an attack's table with them: a run that was killed goes on where it stopped, and an attack that was
added or changed is measured alone.
"""  # noqa: E501
