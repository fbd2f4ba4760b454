from pathlib import Path
from typing import Any

import pytest

from model.annotations import Annotation, AnnotationSet, read_annotations, read_label_map
from model.errors import UserError
from model.recordings import Recordings
from tests.data import data_folder

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation\n"


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return make_audio(tmp_path / "audio", "a.wav", "b.flac", "c.WAV")


def make_audio(folder: Path, *names: str) -> Path:
    """Files with audio's names: annotations are read without opening them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def table(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def bounds(found: AnnotationSet) -> list[tuple[Any, ...]]:
    return [(a.recording, a.start_s, a.end_s, a.label) for a in found.annotations]


class TestRaven:
    def test_a_selection_counts_once_though_each_view_repeats_it(self, audio: Path) -> None:
        rows = (
            "1\tWaveform 1\t1\t0.5\t1.25\twren\n1\tSpectrogram 1\t1\t0.5\t1.25\twren\n"
            "2\tWaveform 1\t1\t0.5\t1.25\twren\n2\tSpectrogram 1\t1\t0.5\t1.25\twren\n"
            "3\tSpectrogram 1\t1\t2\t3\trobin\n"
        )
        table(audio / "a.Table.1.selections.txt", RAVEN + rows)
        found = read_annotations(audio, audio)
        assert bounds(found) == [("a.wav", 0.5, 1.25, "wren"), ("a.wav", 2, 3, "robin")]
        assert found.recordings == ("a.wav",)
        assert found.task == "multilabel"
        assert found.warnings == ()

    def test_equal_selection_numbers_of_merged_tables_are_kept(self, audio: Path) -> None:
        rows = "1\tSpectrogram 1\t1\t0\t1\twren\n1\tSpectrogram 1\t1\t5\t6\twren\n"
        table(audio / "a.Table.1.selections.txt", RAVEN + rows)
        assert len(read_annotations(audio, audio).annotations) == 2

    @pytest.mark.parametrize(
        "name",
        [
            "a.Table.1.selections.txt",
            "a.Table.2.selections.txt",
            "a.selections.txt",
            "a.txt",
            "a.wav.Table.1.selections.txt",
            "a.TXT",
        ],
    )
    def test_names_of_tables(self, audio: Path, name: str) -> None:
        table(audio / name, RAVEN + "1\tS\t1\t0\t1\twren\n")
        assert bounds(read_annotations(audio, audio)) == [("a.wav", 0, 1, "wren")]

    def test_several_tables_of_one_recording_add_up(self, audio: Path) -> None:
        table(audio / "a.Table.1.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        table(audio / "a.Table.2.selections.txt", RAVEN + "1\tS\t1\t0\t1\trobin\n")
        assert read_annotations(audio, audio).labels == ("robin", "wren")

    def test_an_empty_table_means_no_label(self, audio: Path) -> None:
        table(audio / "a.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        table(audio / "b.selections.txt", RAVEN)
        found = read_annotations(audio, audio)
        assert found.recordings == ("a.wav", "b.flac")
        assert found.by_recording()["b.flac"] == []

    def test_a_table_over_several_files(self, audio: Path) -> None:
        header = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tSpecies\n"
        rows = "1\t10\t12\ta.wav\t10\twren\n2\t70\t70.5\tb.wav\t10\trobin\n3\t90\t91\tz.wav\t1\tx\n"
        path = table(audio / "all.Table.1.selections.txt", header + rows)
        found = read_annotations(audio, path)
        assert bounds(found) == [("a.wav", 10, 12, "wren"), ("b.flac", 10, 10.5, "robin")]
        assert len(found.warnings) == 1
        assert found.warnings[0].startswith("1 rows name a recording that is not below")
        assert "z.wav" in found.warnings[0]

    def test_several_files_without_offsets_are_refused(self, audio: Path) -> None:
        header = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"
        table(audio / "x.selections.txt", header + "1\t1\t2\ta.wav\tw\n2\t70\t71\tb.flac\tw\n")
        with pytest.raises(UserError, match=r"no column File Offset \(s\)"):
            read_annotations(audio, audio)
        table(audio / "x.selections.txt", header + "1\t1\t2\ta.wav\tw\n2\t7\t8\ta.wav\tw\n")
        assert [a.start_s for a in read_annotations(audio, audio).annotations] == [1, 7]

    def test_a_recording_renamed_with_its_table(self, audio: Path) -> None:
        header = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"
        table(audio / "a.selections.txt", header + "1\t1\t2\told.wav\tw\n")
        assert bounds(read_annotations(audio, audio)) == [("a.wav", 1, 2, "w")]

    def test_equal_names_in_several_folders_go_by_the_table_s_folder(self, tmp_path: Path) -> None:
        audio = make_audio(tmp_path / "audio", "s1/a.wav", "s2/a.wav")
        table(audio / "s2" / "a.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        table(tmp_path / "apart" / "s1" / "a.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        table(tmp_path / "heap" / "a.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        assert read_annotations(audio, audio).recordings == ("s2/a.wav",)
        assert read_annotations(audio, tmp_path / "apart").recordings == ("s1/a.wav",)
        with pytest.raises(UserError, match=r"s1/a\.wav or s2/a\.wav"):
            read_annotations(audio, tmp_path / "heap")

    def test_links_to_tables_and_recordings(self, audio: Path, tmp_path: Path) -> None:
        table(audio / "a.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        (tmp_path / "links").mkdir()
        for name in ("a.selections.txt", "a.wav"):
            (tmp_path / "links" / name).symlink_to(audio / name)
        (tmp_path / "whole").symlink_to(audio)
        for folder in (tmp_path / "links", tmp_path / "whole"):
            assert bounds(read_annotations(folder, folder)) == [("a.wav", 0, 1, "wren")]
            assert bounds(read_annotations(audio, folder)) == [("a.wav", 0, 1, "wren")]

    def test_a_table_without_recording_is_counted_and_all_of_them_refused(
        self, audio: Path
    ) -> None:
        table(audio / "gone.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n1\tS\t1\t2\t3\twren\n")
        with pytest.raises(UserError, match="Nothing in"):
            read_annotations(audio, audio)
        table(audio / "a.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        assert read_annotations(audio, audio).warnings[0].startswith("2 rows name a recording")

    def test_other_text_files_are_passed_over(self, audio: Path) -> None:
        table(audio / "notes.txt", "Battery changed\n")
        table(audio / "a.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        assert read_annotations(audio, audio).recordings == ("a.wav",)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no header"),
            ("Selection\tAnnotation\n1\tw\n", r"no column Begin Time \(s\)"),
            (RAVEN + "1\tS\t1\t1\t1\twren\n", "line 2: from 1 to 1 s"),
            (RAVEN + "1\tS\t1\t0\t1\tw\n2\tS\t1\t2\t1\tw\n", "line 3: from 2 to 1 s"),
            (RAVEN + "1\tS\t1\t-1\t1\twren\n", "from -1 to 1 s"),
            (RAVEN + "1\tS\t1\tnan\t1\twren\n", "from nan to 1 s"),
            (RAVEN + "1\tS\t1\t0\tinf\twren\n", "from 0 to inf s"),
            (RAVEN + "1\tS\t1\t0\tone\twren\n", "'one' is not a time"),
            (RAVEN + "1\tS\t1\t0\t\twren\n", "both be given"),
            (RAVEN + "1\tS\t1\t0\t1\twren\tmore\n", "more cells"),
            (RAVEN + "1\tS\t1\t0\t1\tUnknown\n", "'Unknown' of a.wav is reserved"),
            (RAVEN + "1\tS\t1\t0\t1\t\n", "no label at all"),
        ],
    )
    def test_wrong_tables_are_refused(self, audio: Path, text: str, message: str) -> None:
        table(audio / "a.Table.1.selections.txt", text)
        with pytest.raises(UserError, match=message):
            read_annotations(audio, audio)

    def test_an_empty_table_needs_no_label_column(self, audio: Path) -> None:
        table(audio / "a.Table.1.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        table(audio / "b.Table.1.selections.txt", RAVEN.replace("\tAnnotation", ""))
        assert read_annotations(audio, audio).recordings == ("a.wav", "b.flac")

    def test_a_broken_table_is_not_passed_over_for_its_name(self, audio: Path) -> None:
        table(audio / "a.Table.1.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        table(audio / "b.Table.1.txt", RAVEN + "1\tS\t1\t0\t1\twren\tmore\n")
        with pytest.raises(UserError, match=r"b.Table.1.txt, line 2: more cells"):
            read_annotations(audio, audio)

    def test_a_folder_with_braces(self, tmp_path: Path) -> None:
        audio = make_audio(tmp_path / "br{1}{n}", "a.wav")
        table(audio / "a.Table.1.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        table(audio / "gone.Table.1.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        assert "br{1}{n}" in read_annotations(audio, audio).warnings[0]


class TestWhichRecording:
    """AudioMoths give the same names at every site: a label never wanders to another folder."""

    @pytest.fixture
    def sites(self, tmp_path: Path) -> Path:
        return make_audio(tmp_path / "audio", "a/x.wav", "a/y.wav", "b/x.wav", "b/z.wav", "c/u.wav")

    def of_csv(self, folder: Path, *files: str) -> AnnotationSet:
        lines = "".join(f"{file},0,1,wren\n" for file in files)
        path = table(folder.parent / "t.csv", "file,start,end,label\n" + lines)
        return read_annotations(folder, path)

    def test_a_missing_file_is_not_that_of_another_folder(self, sites: Path) -> None:
        found = self.of_csv(sites, "a/z.wav", "b/z.wav")
        assert found.recordings == ("b/z.wav",)
        assert "1 rows name a recording that is not below" in found.warnings[0]

    def test_the_last_folders_decide(self, sites: Path) -> None:
        assert self.of_csv(sites, "recs/a/x.wav").recordings == ("a/x.wav",)
        assert self.of_csv(sites, "C:\\recs\\b\\x.wav").recordings == ("b/x.wav",)
        assert self.of_csv(sites, "/home/me/u.wav").recordings == ("c/u.wav",)
        assert self.of_csv(sites / "a", "a/x.wav").recordings == ("x.wav",)
        with pytest.raises(UserError, match=r"may be a/x.wav or b/x.wav"):
            self.of_csv(sites, "x.wav")

    def test_a_table_means_the_recording_beside_it(self, sites: Path) -> None:
        make_audio(sites, "x.wav")
        header = RAVEN.replace("\tAnnotation", "\tBegin File\tAnnotation")
        table(sites / "b/x.Table.1.selections.txt", header + "1\tS\t1\t0\t1\tx.wav\twren\n")
        table(sites / "a/z.Table.1.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        found = read_annotations(sites, sites)
        assert found.recordings == ("b/x.wav",) and len(found.warnings) == 1

    def test_tables_apart_may_mean_any_folder(self, sites: Path) -> None:
        table(sites / "tables/z.Table.1.selections.txt", RAVEN + "1\tS\t1\t0\t1\twren\n")
        assert read_annotations(sites, sites).recordings == ("b/z.wav",)

    def test_the_table_says_which_of_two_formats(self, tmp_path: Path) -> None:
        audio = make_audio(tmp_path / "audio", "x.wav", "x.flac")
        header = RAVEN.replace("\tAnnotation", "\tBegin File\tAnnotation")
        table(audio / "x.Table.1.selections.txt", header + "1\tS\t1\t0\t1\tx.flac\twren\n")
        assert read_annotations(audio, audio).recordings == ("x.flac",)

    def test_links_show_no_recording_twice(self, sites: Path) -> None:
        (sites / "a/loop").symlink_to(sites)
        (sites / "all").symlink_to(sites / "b")
        elsewhere = make_audio(sites.parent / "elsewhere", "v.wav")
        (sites / "d").symlink_to(elsewhere)
        expected = ("a/x.wav", "a/y.wav", "b/x.wav", "b/z.wav", "c/u.wav", "d/v.wav")
        assert Recordings(sites).paths == expected


class TestLabelColumn:
    HEADER = "Selection\tBegin Time (s)\tEnd Time (s)\tSpecies\tLabel\tCall\n"

    def test_an_ambiguity_is_refused(self, audio: Path) -> None:
        table(audio / "a.selections.txt", self.HEADER + "1\t0\t1\twren\tw1\tsong\n")
        with pytest.raises(UserError, match="columns Species and Label"):
            read_annotations(audio, audio)

    @pytest.mark.parametrize(("column", "label"), [("Label", "w1"), ("Call", "song")])
    def test_the_chosen_one_is_taken(self, audio: Path, column: str, label: str) -> None:
        table(audio / "a.selections.txt", self.HEADER + "1\t0\t1\twren\tw1\tsong\n")
        assert read_annotations(audio, audio, column).labels == (label,)

    def test_a_missing_one_is_refused_with_those_there_are(self, audio: Path) -> None:
        table(audio / "a.selections.txt", self.HEADER + "1\t0\t1\twren\tw1\tsong\n")
        with pytest.raises(UserError, match=r"no column Sort; its columns are: Selection, .*Call"):
            read_annotations(audio, audio, "Sort")
        csv = table(audio / "x.csv", "file,kind\na.wav,wren\n")
        with pytest.raises(UserError, match="no column Annotation or Species or Label"):
            read_annotations(audio, csv)


class TestCsv:
    def test_times_and_further_columns(self, audio: Path) -> None:
        path = table(
            audio / "x.csv",
            "file,start,end,label,fold,site,note\n"
            "a.wav,0.5,1,wren,1,hill,one\na.wav,2,3.5,robin,1,hill,two\nb.flac,,,,2,dale,\n",
        )
        found = read_annotations(audio, path)
        assert bounds(found) == [("a.wav", 0.5, 1, "wren"), ("a.wav", 2, 3.5, "robin")]
        assert found.recordings == ("a.wav", "b.flac")
        # Rows of a.wav disagree on the note, so the recording has none.
        assert found.columns["a.wav"] == {"fold": "1", "site": "hill"}
        assert found.columns["b.flac"] == {"fold": "2", "site": "dale", "note": ""}
        assert found.task == "multilabel"

    def test_whole_clips_with_one_label_each_are_single_label(self, audio: Path) -> None:
        path = table(audio / "x.csv", "file,label\na.wav,wren\nb.flac,robin\n")
        found = read_annotations(audio, path)
        assert found.task == "singlelabel"
        assert [a.whole for a in found.annotations] == [True, True]

    @pytest.mark.parametrize("rows", ["a.wav,wren\na.wav,robin\n", "a.wav,wren\nb.flac,\n"])
    def test_clips_with_two_labels_or_none_are_multilabel(self, audio: Path, rows: str) -> None:
        path = table(audio / "x.csv", "file,label\n" + rows)
        assert read_annotations(audio, path).task == "multilabel"

    def test_unannotated_recordings_are_skipped_or_negative(self, audio: Path) -> None:
        path = table(audio / "x.csv", "file,label\na.wav,wren\n")
        assert read_annotations(audio, path).recordings == ("a.wav",)
        negative = read_annotations(audio, path, unannotated="negative")
        assert negative.recordings == ("a.wav", "b.flac", "c.WAV")
        assert negative.task == "multilabel"

    @pytest.mark.parametrize(
        "name", ["c.WAV", "c.wav", "c", "./c.WAV", "old/place/c.WAV", "old\\place\\c.WAV", "c.mp3"]
    )
    def test_names_of_files(self, audio: Path, name: str) -> None:
        path = table(audio / "x.csv", f"file,label\n{name},wren\n")
        assert read_annotations(audio, path).recordings == ("c.WAV",)

    def test_an_absolute_name(self, tmp_path: Path) -> None:
        audio = make_audio(tmp_path / "audio", "s1/a.wav", "s2/a.wav")
        path = table(audio / "x.csv", f"file,label\n{audio / 's2' / 'a.wav'},wren\n")
        assert read_annotations(audio, path).recordings == ("s2/a.wav",)

    def test_a_name_that_two_folders_have_is_refused(self, tmp_path: Path) -> None:
        audio = make_audio(tmp_path / "audio", "s1/a.wav", "s2/a.wav")
        path = table(audio / "x.csv", "file,label\na.wav,wren\n")
        with pytest.raises(UserError, match=r"x\.csv, line 2: a\.wav may be"):
            read_annotations(audio, path)
        table(path, "file,label\ns2/a.wav,wren\n")
        assert read_annotations(audio, path).recordings == ("s2/a.wav",)

    def test_missing_files_are_counted(self, audio: Path) -> None:
        path = table(audio / "x.csv", "file,label\na.wav,wren\ngone.wav,wren\nlost.wav,wren\n")
        (warning,) = read_annotations(audio, path).warnings
        assert warning.startswith("2 rows name a recording")
        assert "gone.wav in" in warning and "line 3" in warning

    def test_rows_without_label_are_counted(self, audio: Path) -> None:
        path = table(audio / "x.csv", "file,start,end,label\na.wav,0,1,wren\na.wav,2,3,\n")
        found = read_annotations(audio, path)
        assert len(found.annotations) == 1
        assert found.warnings[0].startswith("1 rows with times but without a label")

    @pytest.mark.parametrize(
        "text",
        [
            b"\xef\xbb\xbffile,label\r\na.wav,T\xc3\xa9t\xc3\xa9ras\r\n",
            "file;label\na.wav;Tétéras\n".encode("cp1252"),
            "file\tlabel\na.wav\tTétéras\n".encode("utf-16"),
            'file,label\n"a.wav","Te\u0301te\u0301ras"\n\n'.encode(),
            "file,label\ra.wav,Tétéras\r".encode(),
        ],
    )
    def test_encodings_delimiters_and_line_ends(self, audio: Path, text: bytes) -> None:
        assert read_annotations(audio, table(audio / "x.csv", text)).labels == ("Tétéras",)

    def test_decomposed_file_names_are_the_same_names(self, tmp_path: Path) -> None:
        audio = make_audio(tmp_path / "audio", "te\u0301te\u0301ras.wav")
        path = table(audio / "x.csv", "file,label\nt\u00e9t\u00e9ras.wav,wren\n")
        assert read_annotations(audio, path).recordings == ("te\u0301te\u0301ras.wav",)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("name,label\na.wav,w\n", "no column file or recording; its columns are: name, label"),
            ("file,start,label\na.wav,1,w\n", "no column end"),
            ("file,end,label\na.wav,1,w\n", "no column start"),
            ("file,start,end,label\na.wav,1,,w\n", "line 2: start and end must both"),
            ("file,label,label\na.wav,w,w\n", "two columns label"),
            ("file,label,Label\na.wav,w,w\n", "the columns label and Label"),
            ("file,start_time,end_time,label\na.wav,1,2,w\n", "column start_time, but times"),
            ("file,Onset (s),label\na.wav,1,w\n", r"column Onset \(s\), but times"),
            ('file,label\na.wav,"w\nb.flac,x\n', "line 3: "),
            ("file,label\na.wav,\x07\n", "characters that are not text"),
            ("file,label\n", "Nothing in"),
        ],
    )
    def test_wrong_tables_are_refused(self, audio: Path, text: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            read_annotations(audio, table(audio / "x.csv", text))


class TestLabelMap:
    ROWS = "file,label\na.wav,wren\nb.flac,Wren\nc.WAV,noise\n"

    def test_it_renames_merges_and_ignores(self, audio: Path) -> None:
        path = table(audio / "x.csv", self.ROWS)
        mapping = table(audio / "map.csv", "label,new_label\nWren,wren\nnoise,\nowl,strix\n")
        found = read_annotations(audio, path, label_map=mapping)
        assert bounds(found) == [("a.wav", None, None, "wren"), ("b.flac", None, None, "wren")]
        assert found.recordings == ("a.wav", "b.flac", "c.WAV")
        assert found.task == "singlelabel"
        assert found.warnings == ("1 labels of the label map occur nowhere (the first: 'owl').",)

    def test_a_reserved_label_may_be_renamed(self, audio: Path) -> None:
        path = table(audio / "x.csv", "file,label\na.wav,wren\nb.flac,unknown\n")
        mapping = table(audio / "map.csv", "from,to\nunknown,other\n")
        assert read_annotations(audio, path, label_map=mapping).labels == ("other", "wren")
        table(mapping, "from,to\nwren,unknown\n")
        with pytest.raises(UserError, match="reserved"):
            read_annotations(audio, path, label_map=mapping)

    def test_a_contradiction_is_refused(self, audio: Path) -> None:
        mapping = table(audio / "map.csv", "label,new_label\na,b\na,b\na,c\n")
        with pytest.raises(UserError, match="line 4: 'a' is mapped twice"):
            read_label_map(mapping)


class TestFolders:
    def test_one_folder_per_class(self, tmp_path: Path) -> None:
        audio = make_audio(
            tmp_path, "wren/1.wav", "wren/deep/2.flac", "robin/1.OGG", "loose.wav", ".x/3.wav"
        )
        found = read_annotations(audio, audio)
        assert found.annotations == (
            Annotation("robin/1.OGG", None, None, "robin"),
            Annotation("wren/1.wav", None, None, "wren"),
            Annotation("wren/deep/2.flac", None, None, "wren"),
        )
        assert found.task == "singlelabel"

    def test_part_of_the_audio(self, tmp_path: Path) -> None:
        audio = make_audio(tmp_path, "train/wren/1.wav", "train/robin/1.wav", "test/wren/2.wav")
        found = read_annotations(audio, audio / "train")
        assert found.labels == ("robin", "wren")
        assert found.recordings == ("train/robin/1.wav", "train/wren/1.wav")

    def test_a_folder_without_annotations_is_refused(self, audio: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="Nothing in"):
            read_annotations(audio, audio)
        empty = tmp_path / "elsewhere"
        empty.mkdir()
        with pytest.raises(UserError, match="holds no Raven selection tables"):
            read_annotations(audio, empty)
        with pytest.raises(UserError, match="does not exist"):
            read_annotations(audio, tmp_path / "none.csv")
        with pytest.raises(UserError, match="holds no audio"):
            read_annotations(empty, empty)
        with pytest.raises(UserError, match="is no folder"):
            read_annotations(tmp_path / "none", empty)


def test_the_finches_tables() -> None:
    folder = data_folder("finch") / "gy6or6"
    found = read_annotations(folder, folder)
    assert (len(found.recordings), found.task, found.warnings) == (42, "multilabel", ())
    rows = sum(
        len(path.read_text().splitlines()) - 1 for path in folder.glob("*.Table.1.selections.txt")
    )
    assert len(found.annotations) == rows == 2472


def test_the_esc10_table() -> None:
    folder = data_folder("esc10")
    found = read_annotations(folder / "audio", folder / "clips.csv")
    assert (len(found.recordings), len(found.labels), found.task) == (318, 10, "singlelabel")
    assert {columns["fold"] for columns in found.columns.values()} == {"1", "2", "3", "4"}
