## The GDScript samples of the guide, of the README files and of the classes' documentation.
extends RefCounted

const Sample := preload("sample.gd")

const FENCE := "```"
const LANGUAGE := "gdscript"
## Spaces for a tab.
const INDENT := 4
## Pages and folders of pages, relative to the repository.
const PLACES: PackedStringArray = [
	"README.md",
	"addons/backend_client/README.md",
	"demo/README.md",
	"templates/starter/README.md",
	"docs/src",
	"rust/extension/src",
]


## Every sample, in the order of the pages.
static func samples() -> Array:
	var found := []
	for place in PLACES:
		for page in pages(place):
			found.append_array(samples_of(page, FileAccess.get_file_as_string(absolute(page))))
	return found


static func samples_of(page: String, text: String) -> Array:
	var is_source := page.ends_with(".rs")
	var found := []
	var content: PackedStringArray = []
	var is_in_fence := false
	var is_sample := false
	var begin := 0
	var indent := ""
	var number := 0
	for line in text.split("\n"):
		number += 1
		if is_source:
			line = _documentation(line)
		if line.strip_edges(true, false).begins_with(FENCE):
			if is_in_fence and is_sample:
				found.append(_sample(page, begin, content))
			is_in_fence = not is_in_fence
			is_sample = line.strip_edges() == FENCE + LANGUAGE
			begin = number + 1
			indent = line.get_slice(FENCE, 0)
			content = PackedStringArray()
		elif is_in_fence:
			content.append(line.trim_prefix(indent))
	return found


static func absolute(page: String) -> String:
	return ProjectSettings.globalize_path("res://").path_join("..").path_join(page).simplify_path()


static func _sample(page: String, begin: int, content: PackedStringArray) -> Sample:
	var is_included := content.size() == 1 and content[0].begins_with("{{#include ")
	if is_included:
		page = page.get_base_dir().path_join(content[0].get_slice(" ", 1).trim_suffix("}}"))
		begin = 1
		content = FileAccess.get_file_as_string(absolute(page)).split("\n")
	return Sample.new(page, begin, content)


## A line of the documentation in a source; it is indented by spaces there.
static func _documentation(line: String) -> String:
	line = line.strip_edges(true, false)
	if not line.begins_with("///"):
		return ""
	line = line.trim_prefix("///").trim_prefix(" ")
	var spaces := line.length() - line.strip_edges(true, false).length()
	return "\t".repeat(spaces / INDENT) + line.substr(spaces / INDENT * INDENT)


static func pages(place: String) -> PackedStringArray:
	if place.get_extension() != "":
		return PackedStringArray([place])
	var found: PackedStringArray = []
	for folder in DirAccess.get_directories_at(absolute(place)):
		found.append_array(pages(place.path_join(folder)))
	for file in DirAccess.get_files_at(absolute(place)):
		if file.get_extension() in ["md", "rs"]:
			found.append(place.path_join(file))
	return found
