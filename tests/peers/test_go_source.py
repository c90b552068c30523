"""Metric declarations read from Go source."""

from __future__ import annotations

from pathlib import Path

import pytest

from peers.go_source import Declared, GoPackage, built_for_linux


def package(folder: Path, source: str) -> GoPackage:
    (folder / "sample.go").write_text("package collector\n" + source)
    return GoPackage(folder)


def declared(folder: Path, source: str) -> list[Declared]:
    return [metric for file in package(folder, source).files for metric in file.declarations()]


def test_names_are_joined_from_constants_and_types_come_from_the_use(tmp_path: Path) -> None:
    source = """
const namespace = "app"
var (
	queueLabels = []string{"queue", "state"}
	jobs = prometheus.NewDesc(
		prometheus.BuildFQName(namespace, "", "jobs"), // "not", a label
		"Jobs, by state (\\"all\\").", queueLabels, nil,
	)
)
func update(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(jobs, prometheus.GaugeValue, 1, "mail", "done")
}
"""
    assert declared(tmp_path, source) == [Declared("app_jobs", "gauge", ("queue", "state"))]


def test_a_typed_description_has_its_type_beside_it_and_constant_labels_count(tmp_path: Path) -> None:
    source = """
var started = typedDesc{prometheus.NewDesc("app_started_total", "Jobs.", []string{"queue"},
	prometheus.Labels{"kind": "cron"}), prometheus.CounterValue}
"""
    assert declared(tmp_path, source) == [Declared("app_started_total", "counter", ("kind", "queue"))]


def test_instruments_of_the_exporter_itself_are_declared_by_their_options(tmp_path: Path) -> None:
    source = """
var errors = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "app", Name: "errors_total", Help: "Errors: all.",
}, []string{"reason"})
"""
    assert declared(tmp_path, source) == [Declared("app_errors_total", "counter", ("reason",))]


@pytest.mark.parametrize(
    "name", ["field", 'prefix + "_total"', "c.name", 'fmt.Sprintf("app_%d", number)'], ids=lambda it: it
)
def test_a_name_that_is_built_at_run_time_is_left_out(tmp_path: Path, name: str) -> None:
    source = f"""
func describe(field, prefix string) {{
	desc := prometheus.NewDesc({name}, "Help.", nil, nil)
	prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, 1)
}}
"""
    assert declared(tmp_path, source) == []


def test_a_parameter_hides_a_constant_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "other.go").write_text('package collector\nconst subsystem = "wrong"\n')
    source = """
func describe(subsystem string) {
	desc := prometheus.NewDesc(prometheus.BuildFQName("app", subsystem, "jobs"), "Help.", nil, nil)
	prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, 1)
}
"""
    assert declared(tmp_path, source) == []


@pytest.mark.parametrize(
    ("name", "constraint", "built"),
    [
        ("cpu.go", "", True),
        ("cpu_linux.go", "//go:build !nocpu", True),
        ("cpu_darwin.go", "", False),
        ("cpu_openbsd_amd64.go", "", False),
        ("boot_time_bsd.go", "//go:build freebsd || netbsd", False),
        ("uname.go", "//go:build (darwin || freebsd || linux) && !nouname", True),
        ("time_other.go", "//go:build !linux", False),
    ],
)
def test_only_files_that_are_built_for_linux_are_read(tmp_path: Path, name: str, constraint: str, built: bool) -> None:
    path = tmp_path / name
    path.write_text(f"{constraint}\n\npackage collector\n")
    assert built_for_linux(path) is built
