"""Asks Rucio's own parser about RSE expressions: a JSON list of texts on stdin; for each, on stdout, the names of the RSEs that
belong to it, or null where Rucio refuses it. An expression without any RSE is `[]`, although Rucio refuses that too. Some make it
fail in another way (a value that a column can't have): for those, the name of the exception."""

import json
import sys

from rucio.common.exception import InvalidObject, InvalidRSEExpression
from rucio.core.rse_expression_parser import parse_expression
from rucio.db.sqla.session import get_session

session = get_session()
answers = []
for text in json.load(sys.stdin):
    try:
        answers.append(sorted(rse["rse"] for rse in parse_expression(text, session=session)))
    except InvalidRSEExpression as refusal:
        answers.append([] if "empty set" in str(refusal) else None)
    except InvalidObject as failure:
        answers.append(type(failure).__name__)
json.dump(answers, sys.stdout)
