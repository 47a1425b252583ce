"""What `auditkit init` writes: a commented configuration to start from."""

EXAMPLE = """\
# An audit of one deletion request. Run it with: auditkit audit audit.toml
# Paths are relative to this file. Unknown keys are errors, so a typing mistake cannot change an audit silently.

[data]
path = "ml-100k"            # a file or folder: MMRec, RecBole, MovieLens, LightGCN or a table; or format = "synthetic"
# format = "auto"           # told apart by content
# positive = "rating >= 4"  # which rows are positive feedback; all of them when absent
# split = "random:0.8/0/0.2"  # file, random:..., leave-last-out, global-time:...
# k_core = 0                # keep users and items with at least this many pairs
# seed = 0                  # of a random split

[request]
regime = "interaction"      # interaction, user, item or modality (features of items): what a unit of the request is
select = "random"           # random, core (most active or popular), edge (least); or the worst case: tail (rarest items
                            # or tastes), outlier (least like the rest), memorised (trains 16 systems first)
share = 0.05                # of the candidates; or: count = 200
seed = 0
# modalities = ["image"]    # features of the named items that go too; absent: all in item and modality requests
# canaries = 20             # instead: plant so many users or items before training and ask for their deletion
# file = "request.csv"      # instead: units listed in columns user and/or item, by the ids of the data files

[recipe]
backbone = "bpr-mf"         # see: auditkit list backbones
config = {}                 # e.g. { factors = 64 }
fit = {}                    # e.g. { epochs = 60, learning_rate = 0.05 }

[[unlearner]]               # a method under test; repeat the block for more. See: auditkit list unlearners
name = "reverse-bpr"
params = {}                 # e.g. { epochs = 2 }
runs = 1                    # 3 or more where a request is too small for the spread
# steps = 4                 # the units arrive in so many requests, one after another; the last system is judged

[[unlearner]]
name = "gold"

# [[given]]                 # a system made elsewhere; see docs/made-elsewhere.md
# name = "ours"
# role = "unlearned"        # under test; or: original (yours, which [recipe] has to imitate), yardstick (your own Golds
                            # and references, place with {system} in it; then leave [recipe] out)
# embeddings = "exports/ours"        # users.npy and items.npy; or one of:
# table = "answers/ours"             # answers to the questions that `auditkit points` writes
# endpoint = "https://recommender.example/v1"
# onnx = "ours.onnx"
# model = "my_package.models:load"   # a function that returns an object with n_users, n_items and score(users)
# options = {}              # of that way in
# access = ["scores"]       # less than the way in grants

[audit]
profile = "standard"        # quick 4 Golds and 16 references, standard 8/32, certify 20/64
seed = 0
device = "cpu"
# golds = 8                 # override the profile
# references = 32
# originals = 2
# tune = 0                  # up to 0.5: share of the request's clusters (its users, or items) that choices are tuned on
                            # and that are not judged; each part needs 20 units
# access = ["scores"]       # what the auditor can reach: lists, scores, new-users, new-items, weights; and snapshots,
                            # both the model before and the one after (not granted unless it is named)
# list_length = 20          # items in the longest list that the auditor gets, where lists are all there is
# attacks = ["default"]     # which attacks run: default, all, or names (see: auditkit list attacks)
# masked = "train+valid"    # pairs that leave the rankings at test; some papers mask "train" alone
# store = ".auditkit"       # where trained systems are kept; nothing is trained twice

[policy]
alpha = 0.05                # of the one-sided bounds
min_power = 0.8             # nothing passes where a system that holds half of the units is found less surely than this
# margin = 0.10             # largest residue that counts as forgotten; default depends on regime and profile
# primary = "lira-linear"   # the one attack that can PASS a system; default: by regime and access
"""
