"""`selftaught export RUN`: the command."""

from __future__ import annotations

import argparse
from pathlib import Path

from selftaught.cli.common import Call
from selftaught.errors import BadInput
from selftaught.export.rows import WHATS
from selftaught.journal import JournalReader
from selftaught.lineage.folder import RunFolder
from selftaught.run.config import own_version
from selftaught.terminal import print_json, print_text

DTYPES = ("keep", "float32", "bfloat16", "float16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    parser.add_argument("run", type=Path, help="folder of a run, which may be in progress")
    what = "data to write: every answer (attempts), or what a policy was trained on, in TRL's dataset types"
    parser.add_argument("--what", choices=WHATS, help=what)
    parser.add_argument("--to", metavar="FILE", help="FILE.jsonl, FILE.parquet, or hf:ORG/NAME (a private data set)")
    parser.add_argument("--test", action="store_true", help="attempts at test problems, too")
    folder = "folder to copy the champion's model to, with a model card; it needs neither the run nor selftaught"
    parser.add_argument("--champion", type=Path, metavar="DIR", help=folder)
    parser.add_argument("--policy", default="", help="version of another policy than the champion, see lineage")
    dtype = "number format of the copied weights (default: as they are)"
    parser.add_argument("--dtype", choices=DTYPES, default="keep", help=dtype)
    adapter = "copy an adapter as it is; by default it is merged into its base"
    parser.add_argument("--adapter", action="store_true", help=adapter)
    push = "also upload the copied model to the Hugging Face Hub, as a private repository"
    parser.add_argument("--push", default="", metavar="ORG/NAME", help=push)


def execute(call: Call) -> int:
    """Write data, a model, or both. Raises BadInput if neither is asked for."""
    args = call.args
    if not args.what and not args.champion:
        raise BadInput("nothing to export", where="--what", fix="give --what sft --to FILE.jsonl, or --champion DIR")
    if bool(args.what) != bool(args.to):
        raise BadInput("--what and --to belong together", where="export", fix="give both")
    if args.push and not args.champion:
        raise BadInput("it needs the folder of the model", where="--push", fix="give --champion DIR, too")
    found: dict[str, object] = {}
    with JournalReader(args.run) as reader:
        facts = RunFolder(args.run, reader)
        if args.what:
            found |= _data(facts, args)
        if args.champion:
            found |= _model(facts, args)
    if args.json:
        print_json({"run": str(args.run)} | found)
    return 0


def _data(facts: RunFolder, args: argparse.Namespace) -> dict[str, object]:
    from selftaught.export.files import write_rows
    from selftaught.export.rows import export_rows

    policy = facts.resolve_policy(args.policy)
    count = write_rows(export_rows(facts, args.what, policy=policy, test=args.test), args.to)
    if not args.json:
        print_text(f"{count:,} rows in {args.to}")
    return {"what": args.what, "to": args.to, "rows": count}


def _model(facts: RunFolder, args: argparse.Namespace) -> dict[str, object]:
    from selftaught.export.card import model_card
    from selftaught.export.champion import CARD, export_policy, push

    policy = facts.resolve_policy(args.policy) or facts.champion
    card = model_card(facts, policy, own_version())
    folder = export_policy(facts, args.champion, card=card, policy=policy, dtype=args.dtype, merge=not args.adapter)
    if args.push:
        push(folder, args.push)
    if not args.json:
        size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        print_text(f"policy {policy} in {folder}, {size:,.0f} MB, with {CARD}")
        print_text(f'  transformers: AutoModelForCausalLM.from_pretrained("{folder}")')
        print_text(f"  a server:     vllm serve {folder}")
    return {"policy": policy, "champion": str(folder)}
