"""What the owner of a system reads beside the questions: what is asked, and how to answer with pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auditkit.outside.question_files import Questions

_HEAD = """\
Questions of an audit
=====================

An audit of a deletion request asks your recommender what it would serve. It asks the same of every system, so make a
folder of answers for each system and answer all questions in it, with the system as it is served: no training, and
nothing changed for these questions.
"""

_NAMES = """
Ids here are pseudonyms: pseudonyms.parquet says which user or item of your own (column id) each stands for. Answer
under the pseudonyms. That file is for whoever answers and for nobody else: it travels apart from the questions.
"""

_SCORES = """
users.parquet       {n_users} users whose scores are wanted (column user).
items.parquet       all {n_items} items (column item): one score of each, for every user, higher is better.

Answer with scores.parquet, columns user and scores: a list of {n_items} numbers (float32 or float64) for each user.
An item that the system offers to nobody has NaN. Do not take out what a user has had: scores come before any filter.
Write items.parquet into your answers, too: the item ids of *your* lists of scores, in the order that they have there.
Any order of items and of users will do; without that file nobody can see whether the order is right.

{example}
"""

_LISTS = """
users.parquet       {n_users} users whose lists are wanted (column user).
items.parquet       all {n_items} items that there are (column item).
left_out.parquet    what must not be in a user's list (columns user, item). Everything else may be in it, also what the
                    user has had before: take nothing else out.

Answer with lists.parquet, columns user and items: for each user a list of the {length} best item ids, best first. A
list is shorter only where nothing else that the system offers to anybody is left.

{example}
"""

_FOLDED_SCORES = """
histories.parquet   {n} new {side}s that the system has never seen (columns history, side, told): what each of them is
                    known to like{liked}. {wanted}

Answer with folded.parquet, columns history and scores, made as the system serves a new {side}: nothing learned moves.
Leave the file out where it cannot serve new {side}s; the audit then asks less, and says so.
"""

_FOLDED_LISTS = """
histories.parquet   {n} new users that the system has never seen (columns history, side, told): the items in told are
                    all that is known of a new user.

Answer with folded.parquet, columns history and items: the {length} best items that are not in told, best first, made
as the system serves a new user: nothing learned moves. Leave the file out where it cannot serve new users.
"""

_TAIL = """
Ids are text. questions.json has the counts and a digest; the example writes the digest into the answers, so that
answers to other questions are noticed. Users whom the system does not serve at all any more: say so to the auditor, who
then sets options.unserved, and leave their scores NaN (their lists empty).

Who sees what: users.parquet does not tell whom the request is about.
{told}
"""

_EXAMPLE = """\
import json, os
import pandas as pd

users = pd.read_parquet("users.parquet")["user"]
items = pd.read_parquet("items.parquet")["item"]
{middle}
with open("questions.json") as file:
    answers.attrs["questions"] = json.load(file)["digest"]
os.makedirs("answers", exist_ok=True)
answers.to_parquet("answers/{name}.parquet", index=False)
{last}"""

_SCORES_MIDDLE = """\
table = scores_of(users, items)  # yours: an array of floats, one row a user, one column an item
answers = pd.DataFrame({"user": users, "scores": list(table)})"""
_SCORES_LAST = """\
items.to_frame().to_parquet("answers/items.parquet", index=False)  # the order of your columns
"""
_LISTS_MIDDLE = """\
left_out = pd.read_parquet("left_out.parquet").groupby("user")["item"].agg(set).to_dict()
answers = pd.DataFrame({"user": users})
answers["items"] = [best_items(u, without=left_out.get(u, set()), length=LENGTH) for u in users]  # best_items: yours"""

_TELLING = {
    "left_out": "left_out.parquet does tell, whoever has the training data: it lacks what is to be forgotten.",
    "histories": "histories.parquet does tell, whoever has the training data: it holds halves of forgotten histories.",
}


def readme(questions: Questions) -> str:
    """The text of README.txt."""
    sizes = {"n_users": len(questions.users), "n_items": len(questions.items), "length": questions.length}
    body = _SCORES if questions.wanted == "scores" else _LISTS
    text = _HEAD + (_NAMES if questions.pseudonyms else "")
    text += body.format(**sizes, example=example(questions)) + _folded(questions)
    if questions.everyone:
        text += f"\nall_users.parquet   all {len(questions.everyone)} users (column user): the order of these scores.\n"
        text += "Write all_users.parquet into your answers, too, in the order of your own lists.\n"
    there = {"left_out": questions.wanted == "lists", "histories": bool(questions.histories)}
    told = [line for name, line in _TELLING.items() if there[name]] or ["Nor does any other file of the questions."]
    return text + _TAIL.format(told="\n".join(told))


def example(questions: Questions) -> str:
    """Code that answers with pandas, beside two functions of the owner's own: `scores_of` or `best_items`."""
    if questions.wanted == "scores":
        return _EXAMPLE.format(middle=_SCORES_MIDDLE, name="scores", last=_SCORES_LAST)
    middle = _LISTS_MIDDLE.replace("LENGTH", str(questions.length))
    return _EXAMPLE.format(middle=middle, name="lists", last="")


def _folded(questions: Questions) -> str:
    if not questions.histories:
        return ""
    sizes = {"n": len(questions.histories), "side": questions.side, "length": questions.length}
    if questions.wanted == "lists":
        return _FOLDED_LISTS.format(**sizes)
    if questions.side == "user":
        return _FOLDED_SCORES.format(**sizes, liked=" (items)", wanted="Wanted: a score of every item.")
    liked, wanted = " by (users)", "Wanted: a score for every user of all_users.parquet."
    return _FOLDED_SCORES.format(**sizes, liked=liked, wanted=wanted)
