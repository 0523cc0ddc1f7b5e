"""A change of the embedding model: the new index is built beside the old one, and searched from one moment on."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from client.qdrant.points import COLLECTION_PREFIX, collection_name
from client.sql.index_versions import VersionState
from documents import index_versions
from documents.service import DocumentService
from errors import NothingIndexed
from queues.jobs import building
from queues.jobs.consistency import check_consistency
from queues.jobs.indexing import index_upload, remove_upload
from queues.wiring import Services, close_loop, open_services
from rag.answer.pipeline import answer_query
from rag.ingest.chunking import CHUNKING_VERSION, chunk_pages
from rag.ingest.indexing import index_document
from rag.search.fusion import SearchResults
from schemas import (
    Answer,
    Document,
    Indexed,
    Page,
    PageWarning,
    Progress,
    Query,
    SearchFilter,
    Upload,
    UploadStatus,
    UploadTask,
)
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.corpus.pdfs import drawn
from tests.support.openai_stub import DIMENSIONS, KEY, OpenAIStub
from tests.support.scans import LINES, require_tesseract, scanned, text_of_its_own, without_tesseract

NOBODYS = "00000000-0000-4000-8000-000000000000"
PLACES = ("lighthouse", "windmill", "foundry", "observatory", "tannery")


def silent(_progress: Progress) -> None:
    pass


def text_of(place: str) -> str:
    return f"The {place} of Brindle Point was built in 1887 by the engineer Tamsin Vale."


def upload(services: Services, place: str, *, index: bool = True, text: str = "") -> Upload:
    """Add a text about a place, as index.py does."""
    documents = DocumentService(services.uploads, services.files, None)
    content = io.BytesIO((text or text_of(place)).encode())
    accepted = asyncio.run(documents.accept(content, name=f"{place}.txt"))
    if index:
        index_upload(UploadTask(upload_id=accepted.upload.upload_id), services, silent, job_id=None)
    found = services.uploads.get(accepted.upload.upload_id)
    assert found is not None
    return found


def ask(services: Services, place: str, **options: object) -> Answer:
    query = Query.model_validate({"query": f"Who built the {place}?"} | options)

    async def answer() -> Answer:
        try:
            return await answer_query(query, retriever=services.retriever, chat=None, report=silent)
        finally:
            await close_loop()

    return asyncio.run(answer())


def build(services: Services) -> None:
    """Run steps until none follows."""
    while building.run_step(services, silent).more:
        pass


def indexed_by(settings: Settings, *places: str) -> list[Upload]:
    with opened(settings) as services:
        return [upload(services, place) for place in places]


def model_searched(services: Services) -> str:
    searched = services.index.versions.searched()
    assert searched is not None
    return searched.model


@contextmanager
def opened(settings: Settings) -> Iterator[Services]:
    """Open services, with an embedded store that they own."""
    with closing(open_services(settings, owner=True)) as services:
        yield services


@pytest.fixture
def by_words(make_settings: MakeSettings) -> Settings:
    return make_settings(embedding_model="bm25")


@pytest.fixture
def by_meaning(make_settings: MakeSettings, stub: OpenAIStub) -> Settings:
    return make_settings(openai_base_url=stub.url, openai_api_key=KEY, embedding_model="words-64")


def test_questions_are_answered_from_the_old_index_until_the_new_one_is_complete(
    by_words: Settings, by_meaning: Settings
) -> None:
    with opened(by_words) as services:
        first = [upload(services, place) for place in PLACES[:3]]
        assert {one.index_version for one in first} == {1}
    with opened(by_meaning) as services:
        versions = services.index.versions
        version = building.begin_build(services)
        assert version is not None
        for done in range(3):
            assert versions.progress(version).done == done
            for place in PLACES[:3]:
                answer = ask(services, place)
                assert answer.answered, answer.text
                assert answer.used is not None
                assert answer.used.embedding_model is None
            assert building.run_step(services, silent, seconds=0).more
        assert not building.run_step(services, silent).more
        searched = versions.searched()
        assert searched is not None
        assert (searched.model, searched.dimensions) == ("words-64", DIMENSIONS)
        for place in PLACES[:3]:
            answer = ask(services, place)
            assert answer.answered
            assert answer.used is not None
            assert answer.used.embedding_model == "words-64"
        assert services.index.collections.names() == [searched.collection]
        assert [version.state for version in versions.all()] == [VersionState.SEARCHED]
        assert {one.index_version for one in services.uploads.all()} == {searched.version_id}


def test_an_upload_during_a_build_is_found_as_soon_as_it_is_ready(by_words: Settings, by_meaning: Settings) -> None:
    indexed_by(by_words, *PLACES[:2])
    with opened(by_meaning) as services:
        building.begin_build(services)
        building.run_step(services, silent, seconds=0)
        assert upload(services, "foundry").status is UploadStatus.READY
        assert ask(services, "foundry").answered
        build(services)
        assert model_searched(services) == "words-64"
        assert all(ask(services, place).answered for place in PLACES[:3])


def test_an_upload_replaced_during_a_build_is_built_again(by_words: Settings, by_meaning: Settings) -> None:
    [first] = indexed_by(by_words, "lighthouse")
    with opened(by_meaning) as services:
        version = building.begin_build(services)
        assert version is not None
        taken = services.index.versions.next_upload(version)
        assert taken is not None
        documents = DocumentService(services.uploads, services.files, None)
        content = io.BytesIO(b"The lighthouse was built by Orla Quint.")
        asyncio.run(documents.accept(content, name="lighthouse.txt", upload_id=first.upload_id))
        assert services.index.versions.next_upload(version) is None, "its content is about to change"
        assert not services.index.versions.switch(version)
        index_upload(UploadTask(upload_id=first.upload_id), services, silent, job_id=None)
        read = Indexed(upload_id=taken.upload_id, name=taken.name, pages=1, chunks=1)
        assert not services.index.versions.mark_built(version, taken, read), "the content is another"
        build(services)
        assert model_searched(services) == "words-64"
        assert "Orla Quint" in ask(services, "lighthouse").text


def test_an_upload_that_becomes_ready_after_the_switch_is_indexed_again(
    by_words: Settings, by_meaning: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed_by(by_words, "lighthouse")
    with opened(by_meaning) as services:
        building.begin_build(services)
        finish = services.uploads.finish
        switched: list[bool] = []

        def finish_after_the_switch(*arguments: Any, **values: Any) -> Upload | None:
            if not switched:
                switched.append(True)
                build(services)
            return finish(*arguments, **values)

        monkeypatch.setattr(services.uploads, "finish", finish_after_the_switch)
        late = upload(services, "windmill")
        searched = services.index.versions.searched()
        assert searched is not None
        assert (late.status, late.index_version) == (UploadStatus.READY, searched.version_id)
        assert searched.model == "words-64"
        assert all(ask(services, place).answered for place in PLACES[:2])


def test_the_pages_that_took_ocr_are_those_of_the_reading_that_is_searched(
    by_words: Settings, by_meaning: Settings, tmp_path: Path
) -> None:
    """The reader of the new index has no tesseract, so that the scanned page has no text in that index."""
    require_tesseract()
    with opened(by_words) as services:
        documents = DocumentService(services.uploads, services.files, None)
        content = io.BytesIO(drawn(text_of_its_own, scanned())())
        upload_id = asyncio.run(documents.accept(content, name="scan.pdf")).upload.upload_id
        index_upload(UploadTask(upload_id=upload_id), services, silent, job_id=None)
        page = services.recognized.get(upload_id, 2)
        assert page is not None
        assert page.text.split() == " ".join(LINES).split()
        assert services.recognized.get(upload_id, 1) is None
    with opened(by_meaning) as services:
        building.begin_build(services)
        with without_tesseract(tmp_path):
            build(services)
        assert model_searched(services) == "words-64"
        assert services.recognized.get(upload_id, 2) is None


def test_a_refusing_provider_changes_nothing_and_is_named(
    by_words: Settings, by_meaning: Settings, stub: OpenAIStub
) -> None:
    indexed_by(by_words, *PLACES[:2])
    with opened(by_meaning) as services:
        version = building.begin_build(services)
        assert version is not None
        stub.behaviour.always_fail = 401
        build(services)
        failed = services.index.versions.under_way()
        assert failed is not None
        assert failed.state is VersionState.FAILED
        assert failed.error is not None
        assert "OPENAI_API_KEY" in failed.error
        assert model_searched(services) == "bm25"
        assert all(ask(services, place).answered for place in PLACES[:2])
        assert upload(services, "foundry").status is UploadStatus.READY
        stub.behaviour.always_fail = None
        again = building.begin_build(services)  # as the next start does, or `main.py reindex`
        assert again is not None
        assert again.version_id == version.version_id
        build(services)
        assert model_searched(services) == "words-64"
        assert all(ask(services, place).answered for place in PLACES[:3])


def test_a_build_notes_what_its_reading_warns_of(
    by_words: Settings, by_meaning: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    warning = PageWarning(page=1, reason="unreadable_text")

    def warned(*arguments: Any, **options: Any) -> Indexed:
        return index_document(*arguments, **options).model_copy(update={"warnings": (warning,)})

    [lighthouse] = indexed_by(by_words, "lighthouse")
    assert lighthouse.warnings == ()
    monkeypatch.setattr(building, "index_document", warned)
    with opened(by_meaning) as services:
        building.begin_build(services)
        build(services)
        [built] = services.uploads.all()
        assert built.warnings == (warning,)


def test_a_document_that_cannot_be_built_keeps_the_old_index(by_words: Settings, by_meaning: Settings) -> None:
    lost, _ = indexed_by(by_words, *PLACES[:2])
    with opened(by_meaning) as services:
        services.files.delete(lost.file_id)
        building.begin_build(services)
        build(services)
        failed = services.index.versions.under_way()
        assert failed is not None
        assert failed.error is not None
        assert failed.error.startswith(f"1 of 2 documents are in the new index. Not in it: upload {lost.upload_id}")
        assert all(ask(services, place).answered for place in PLACES[:2])
        services.uploads.mark_deleting(lost.upload_id, user_id=None, job_id="delete")
        remove_upload(UploadTask(upload_id=lost.upload_id), services)
        building.begin_build(services)
        build(services)
        assert model_searched(services) == "words-64"
        assert ask(services, "windmill").answered


def test_a_document_deleted_during_a_build_is_in_neither_index(by_words: Settings, by_meaning: Settings) -> None:
    first, second = indexed_by(by_words, *PLACES[:2])
    with opened(by_meaning) as services:
        version = building.begin_build(services)
        assert version is not None
        building.run_step(services, silent, seconds=0)
        building.run_step(services, silent, seconds=0)
        stores = [services.store, services.index.open(version).store]
        assert [len(store.count_by_upload()) for store in stores] == [2, 2]
        for one in (first, second):
            services.uploads.mark_deleting(one.upload_id, user_id=None, job_id="delete")
        assert not ask(services, "lighthouse").answered
        remove_upload(UploadTask(upload_id=first.upload_id), services)
        assert [set(store.count_by_upload()) for store in stores] == [{("local", second.upload_id)}] * 2


def test_a_build_deletes_what_it_has_just_added_of_a_deleted_document(
    by_words: Settings, by_meaning: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = indexed_by(by_words, "lighthouse")
    with opened(by_meaning) as services:
        version = building.begin_build(services)
        assert version is not None
        store = services.index.open(version).store
        count = store.count

        def count_after_the_delete(search_filter: SearchFilter) -> int:
            counted = count(search_filter)
            if counted:
                services.uploads.mark_deleting(first.upload_id, user_id=None, job_id="delete")
            return counted

        monkeypatch.setattr(store, "count", count_after_the_delete)
        building.run_step(services, silent)
        assert store.count_by_upload() == {}


def test_points_that_the_store_lost_during_the_build_are_added_again(by_words: Settings, by_meaning: Settings) -> None:
    first, _ = indexed_by(by_words, *PLACES[:2])
    with opened(by_meaning) as services:
        version = building.begin_build(services)
        assert version is not None
        building.run_step(services, silent, seconds=0)
        services.index.open(version).store.delete(first.upload_id, user_id="local")
        build(services)
        assert model_searched(services) == "words-64"
        assert all(ask(services, place).answered for place in PLACES[:2])


def test_documents_of_an_earlier_release_are_in_the_index_that_they_were_indexed_with(
    by_words: Settings, by_meaning: Settings
) -> None:
    with opened(by_words) as services:
        first, second, third = (upload(services, place) for place in PLACES[:3])
        services.store.delete(third.upload_id, user_id="local")  # it was indexed with a model used before
        forget_versions(services)
    with opened(by_meaning) as services:
        services.index.searched()
        rows = {row.upload_id: row for row in services.uploads.all()}
        assert model_searched(services) == "bm25"
        assert {rows[one.upload_id].index_version for one in (first, second)} == {1}
        assert rows[third.upload_id].status is UploadStatus.QUEUED
        answer = ask(services, "airship")
        assert answer.not_searched == 1
        assert answer.text.endswith("Documents that are not searched yet: 1.")
        index_upload(UploadTask(upload_id=third.upload_id), services, silent, job_id=rows[third.upload_id].job_id)
        assert all(ask(services, place).answered for place in PLACES[:3])
        building.begin_build(services)
        build(services)
        assert model_searched(services) == "words-64"


@pytest.mark.parametrize("model", ["BAAI/bge-m3", "nomic-embed-text:latest", "org/a_model:v1"])
def test_the_name_of_an_earlier_model_is_found_by_its_points(
    make_settings: MakeSettings, stub: OpenAIStub, model: str
) -> None:
    provider = {"openai_base_url": stub.url, "openai_api_key": KEY}
    with opened(make_settings(embedding_model=model, **provider)) as services:
        upload(services, "lighthouse")
        forget_versions(services)
    with opened(make_settings(embedding_model="another", **provider)) as services:
        answer = ask(services, "lighthouse")
        assert answer.used is not None
        assert answer.used.embedding_model == model
        assert model_searched(services) == model


def forget_versions(services: Services) -> None:
    """Leave the database as an earlier release did."""
    with services.index.versions._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM index_versions")
        connection.exec_driver_sql("UPDATE uploads SET index_version = NULL")


def test_an_old_model_that_cannot_be_asked_leaves_the_search_by_words(
    make_settings: MakeSettings, by_meaning: Settings, stub: OpenAIStub
) -> None:
    indexed_by(by_meaning, *PLACES[:2])
    stub.behaviour.refused_models.add("words-64")
    settings = make_settings(openai_base_url=stub.url, openai_api_key=KEY, embedding_model="words-new")
    with opened(settings) as services:
        building.begin_build(services)
        answer = ask(services, "lighthouse")
        assert answer.answered
        assert answer.used is not None
        assert answer.used.embedding_model is None, "the search was by words alone"
        assert upload(services, "foundry").status is UploadStatus.READY
        assert ask(services, "foundry").answered
        build(services)
        answer = ask(services, "foundry")
        assert answer.used is not None
        assert answer.used.embedding_model == "words-new"


def test_without_its_provider_a_paid_index_is_kept_and_taken_up_again(
    make_settings: MakeSettings, by_meaning: Settings, stub: OpenAIStub
) -> None:
    indexed_by(by_meaning, *PLACES[:2])
    offline = make_settings(embedding_model="words-64")
    with opened(offline) as services:
        building.begin_build(services)
        assert ask(services, "lighthouse").answered
        build(services)
        assert model_searched(services) == "bm25"
        assert len(services.index.collections.names()) == 2, "the key may come back"
        upload(services, "foundry")
    embedded = len(stub.behaviour.calls)
    with opened(by_meaning) as services:
        building.begin_build(services)
        build(services)
        assert model_searched(services) == "words-64"
        assert len(stub.behaviour.calls) == embedded + 1, "only the third document was embedded"
        assert len(services.index.collections.names()) == 1
        assert all(ask(services, place).answered for place in PLACES[:3])


def test_a_build_for_a_model_that_is_no_longer_wanted_is_given_up(by_words: Settings, by_meaning: Settings) -> None:
    indexed_by(by_words, *PLACES[:2])
    with opened(by_meaning) as services:
        building.begin_build(services)
        building.run_step(services, silent, seconds=0)
    with opened(by_words) as services:
        assert building.begin_build(services) is None
        build(services)
        assert services.index.versions.under_way() is None
        assert len(services.index.collections.names()) == 1
        assert ask(services, "lighthouse").answered


def test_another_way_of_chunking_is_another_version(by_words: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed_by(by_words, *PLACES[:2])
    chunking = CHUNKING_VERSION + 1
    monkeypatch.setattr(index_versions, "CHUNKING_VERSION", chunking)
    with opened(by_words) as services:
        version = building.begin_build(services)
        assert version is not None
        assert (version.model, version.chunking) == ("bm25", chunking)
        assert ask(services, "lighthouse").answered
        build(services)
        searched = services.index.versions.searched()
        assert searched is not None
        assert searched.chunking == chunking
        assert services.index.collections.names() == [collection_name("bm25", chunking)]
        assert all(ask(services, place).answered for place in PLACES[:2])


def test_the_chunks_of_an_earlier_release_are_searched_until_new_ones_are_made(
    by_words: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(index_versions, "CHUNKING_VERSION", 1)
        indexed_by(by_words, *PLACES[:2])
        with opened(by_words) as services:
            assert services.index.collections.names() == [f"{COLLECTION_PREFIX}bm25"]
            forget_versions(services)
    with opened(by_words) as services:
        version = building.begin_build(services)
        assert version is not None
        assert version.chunking == CHUNKING_VERSION
        assert ask(services, "lighthouse").answered
        build(services)
        assert services.index.collections.names() == [collection_name("bm25")]
        assert ask(services, "windmill").answered


def test_the_same_version_is_built_again_on_request(by_words: Settings) -> None:
    indexed_by(by_words, *PLACES[:2])
    with opened(by_words) as services:
        assert building.begin_build(services) is None
        version = building.begin_build(services, again=True)
        assert version is not None
        build(services)
        assert services.index.collections.names() == [version.collection] == [f"{collection_name('bm25')}~2"]
        assert ask(services, "lighthouse").answered


def test_an_index_without_documents_is_switched_at_once(by_words: Settings, by_meaning: Settings) -> None:
    with opened(by_words) as services:
        services.index.searched()
    with opened(by_meaning) as services:
        assert building.begin_build(services) is None
        assert model_searched(services) == "words-64"


def test_a_document_whose_building_ends_the_worker_each_time_is_left_alone(
    by_words: Settings, by_meaning: Settings
) -> None:
    indexed_by(by_words, *PLACES[:2])
    with opened(by_meaning) as services:
        version = building.begin_build(services)
        assert version is not None
        first = services.index.versions.next_upload(version)
        for _ in range(4):  # as workers do that die
            assert services.index.versions.next_upload(version) == first
        other = services.index.versions.next_upload(version)
        assert other is not None
        assert other != first
        build(services)
        failed = services.index.versions.under_way()
        assert failed is not None
        assert "it ended the worker 5 times" in (failed.error or "")


def test_a_question_in_flight_during_the_switch_is_searched_again(
    by_words: Settings, by_meaning: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed_by(by_words, "lighthouse")
    with opened(by_meaning) as services:
        building.begin_build(services)
        store = services.store
        searching = store.search

        def search_during_the_switch(*arguments: Any) -> list[SearchResults]:
            found = searching(*arguments)
            build(services)  # and the old collection is gone before the neighbours are read
            return found

        monkeypatch.setattr(store, "search", search_during_the_switch)
        answer = ask(services, "lighthouse")
        assert answer.answered
        assert answer.used is not None
        assert answer.used.embedding_model == "words-64"


def test_nobody_claims_that_no_document_mentions_a_word_while_some_are_not_searched(by_words: Settings) -> None:
    with opened(by_words) as services:
        waiting = upload(services, "windmill", index=False)
        with pytest.raises(NothingIndexed, match="1 document of yours wait to be indexed"):
            ask(services, "windmill")
        upload(services, "lighthouse")
        answer = ask(services, "windmill", query="Which windmill?")
        assert (answer.answered, answer.not_searched) == (False, 1)
        assert "No document mentions" not in answer.text
        assert "Documents that are not searched yet: 1." in answer.text
        index_upload(UploadTask(upload_id=waiting.upload_id), services, silent, job_id=None)
        assert ask(services, "windmill").not_searched == 0
        assert "No document mentions: airship." in ask(services, "airship", query="Which airship?").text
        assert ask(services, "airship", user_id="ann").not_searched == 0


def test_audit_knows_both_versions(by_words: Settings, by_meaning: Settings) -> None:
    first, second = indexed_by(by_words, *PLACES[:2])
    with opened(by_meaning) as services:
        version = building.begin_build(services)
        assert version is not None
        building.run_step(services, silent, seconds=0)  # adds one document
        store = services.index.open(version).store
        assert list(check_consistency(services, reindex=list)) == []
        store.delete(first.upload_id, user_id="local")
        [stray] = chunk_pages(
            Document(upload_id=NOBODYS, path="/a.txt", name="a.txt"),
            [Page(number=1, label="1", text="The lamp turns.")],
            model="words-64",
        )
        store.upsert([stray])
        services.index.collections.engine("documents-2-tried-once").upsert([], dimensions=None)
        found = list(check_consistency(services, reindex=list))
        assert [one.deletes for one in found] == [True, True, False]
        assert NOBODYS in found[0].description
        assert "documents-2-tried-once" in found[1].description
        assert first.upload_id in found[2].description
        for one in found:
            one.repair()
        assert list(check_consistency(services, reindex=list)) == []
        build(services)
        assert set(services.store.count_by_upload()) == {("local", one.upload_id) for one in (first, second)}
