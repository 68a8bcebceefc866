"""Facts about the model card."""

from pathlib import Path

import yaml

from holdfast.core.config import AugmentConfig, CollectConfig, RedactConfig, RunConfig, Source
from holdfast.core.redact_config import DenyRule
from holdfast.export.card import CardFacts, read_front_matter, render_card

LOGITS = {"divergence": 1e-5, "adapter_divergence": 0.5, "positions": 640}


def make_facts(folder: Path, base_model: str = "pebble") -> CardFacts:
    config = RunConfig(
        name="triage", base_model=base_model, collect=CollectConfig(sources=(Source(path="/secret/place/a.jsonl"),))
    )
    return CardFacts(
        config=config,
        base_folder=folder,
        task={
            "task": "ticket_priority",
            "instruction": "Classify.",
            "labels": ["high", "low"],
            "label_field": "priority",
        },
        rows={"train": 300, "valid": 30, "test": 60},
        results={"valid_json": 0.95, "label_accuracy": 0.9, "stopped": 1.0, "n": 60},
        files={"triage-Q4_K_M.gguf": 3 * 2**20},
        merge={"logits": LOGITS},
    )


def front_matter(text: str) -> dict[str, object]:
    document = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(document, dict)
    return document


def test_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    front = front_matter(render_card(make_facts(tmp_path)))
    assert front["base_model"] == "pebble"
    assert front["pipeline_tag"] == "text-generation"
    assert front["library_name"] == "transformers"
    assert "gguf" in front["tags"]  # type: ignore[operator]


def test_measured_numbers_and_counts_are_in_the_card(tmp_path: Path) -> None:
    text = render_card(make_facts(tmp_path))
    for words in ("| label accuracy | 0.9000 |", "60 held-out items", "| train | 300 |", "3.0 MiB", "ticket_priority"):
        assert words in text


def test_nothing_measured_means_no_numbers(tmp_path: Path) -> None:
    text = render_card(make_facts(tmp_path)._replace(results={}))
    assert "model-index" not in front_matter(text)
    assert "Nothing was measured." in text


def test_license_of_the_base_model_is_inherited(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# base\n")
    assert front_matter(render_card(make_facts(tmp_path)))["license"] == "apache-2.0"


def test_paths_of_this_machine_are_not_in_the_card(tmp_path: Path) -> None:
    text = render_card(make_facts(tmp_path, "/home/someone/models/small-1b"))
    assert "/home/someone" not in text
    assert "/secret/place" not in text
    assert front_matter(text)["base_model"] == "small-1b"


def test_words_that_are_to_stay_secret_are_not_in_the_card(tmp_path: Path) -> None:
    facts = make_facts(tmp_path)
    redact = RedactConfig(deny=(DenyRule(words=("Project Nightjar",)),), pseudonym_key_file="/home/someone/p.key")
    augment = AugmentConfig(rules="/home/someone/rules.yaml")
    config = facts.config.model_copy(update={"redact": redact, "augment": augment})
    text = render_card(facts._replace(config=config))
    assert "Nightjar" not in text and "/home/someone" not in text


def test_intervals_and_scores_of_the_contract_are_told(tmp_path: Path) -> None:
    intervals = {"label_accuracy": (0.8, 0.95), "polite": (0.5, 0.7)}
    results = {"label_accuracy": 0.9, "polite": 0.6, "n": 60, "intervals": intervals}
    text = render_card(make_facts(tmp_path)._replace(results=results))
    assert "| label accuracy | 0.9000 (0.8000 to 0.9500) |" in text
    assert "| polite | 0.6000 (0.5000 to 0.7000) |" in text


def test_broken_front_matter_of_the_base_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\na: [\n---\n")
    assert read_front_matter(tmp_path) == {}


def test_commands_to_serve_and_the_configuration_are_in_the_card(tmp_path: Path) -> None:
    text = render_card(make_facts(tmp_path))
    for words in (
        "llama-server --model triage-Q4_K_M.gguf --alias triage --jinja --ctx-size 2048 --parallel 2 --temp 0 "
        "--predict 64 --host 127.0.0.1 --port 8080",
        "vllm serve ./merged --served-model-name triage --max-model-len 1024 --generation-config vllm "
        """--override-generation-config '{"temperature": 0, "max_new_tokens": 64}' --host 127.0.0.1""",
        "ollama create triage -f Modelfile",
    ):
        assert words in text
    settings = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert settings["train"]["lora_r"] == 16
    assert "collect" not in settings


def test_the_chosen_base_of_the_merge_is_told(tmp_path: Path) -> None:
    losses = {"original": {"loss": 0.5}, "nf4": {"loss": 0.25}}
    facts = make_facts(tmp_path)._replace(merge={"base": {"chosen": "nf4", "measured": losses}, "logits": LOGITS})
    text = render_card(facts)
    assert "the weights that the 4-bit model computed with (loss of the validation answers: original 0.5000" in text


def test_a_file_that_verify_will_choose_is_not_told_as_chosen(tmp_path: Path) -> None:
    facts = make_facts(tmp_path)
    chosen_later = facts.config.model_copy(update={"verify": facts.config.verify.model_copy(update={"deploy": "auto"})})
    assert "08-verify/Modelfile" in render_card(facts._replace(config=chosen_later))
    assert "08-verify/Modelfile" not in render_card(facts)
