class_name BackendUiTranslations
extends RefCounted
## Loads the texts of the ready-made scenes into a [TranslationDomain] of their own, so that they
## neither need nor change the translations of the game.
##
## A game adds a language, or replaces texts, with
## [code]TranslationServer.get_or_add_domain(&"backend_client.ui").add_translation(...)[/code].

const DOMAIN := &"backend_client.ui"
const CATALOGS: Array[Translation] = [
	preload("res://addons/backend_client/ui/translations/en.po"),
	preload("res://addons/backend_client/ui/translations/de.po"),
	preload("res://addons/backend_client/ui/translations/es.po"),
	preload("res://addons/backend_client/ui/translations/ja.po"),
	preload("res://addons/backend_client/ui/translations/zh_CN.po"),
]

static var _loaded := false


## Makes [param scene] and its children use the texts.
static func apply(scene: Node) -> void:
	get_domain()
	scene.set_translation_domain(DOMAIN)


## The domain with the texts, which are loaded on first use.
static func get_domain() -> TranslationDomain:
	var domain := TranslationServer.get_or_add_domain(DOMAIN)
	if not _loaded:
		_loaded = true
		for catalog: Translation in CATALOGS:
			domain.add_translation(catalog)
	return domain
