// mdBook's highlighter does not know GDScript. This teaches it, and colors the blocks that it has left alone.
(function () {
    "use strict";
    if (typeof hljs === "undefined") {
        return;
    }
    hljs.registerLanguage("gdscript", function (hljs) {
        return {
            name: "GDScript",
            aliases: ["gd"],
            keywords: {
                keyword:
                    "and as assert await break breakpoint class class_name const continue elif else enum extends for " +
                    "func if in is match not or pass return self setget signal static super var void when while yield",
                literal: "true false null PI TAU INF NAN",
                built_in:
                    "bool int float String StringName NodePath Array Dictionary Callable Signal Variant Vector2 Vector2i " +
                    "Vector3 Vector3i Vector4 Color Rect2 Transform2D Transform3D Basis Quaternion PackedByteArray " +
                    "PackedStringArray print push_error push_warning load preload str len range",
            },
            contains: [
                hljs.HASH_COMMENT_MODE,
                { className: "string", begin: /[&^]?"""/, end: /"""/ },
                { className: "string", begin: /[&^]?"/, end: /"/, illegal: /\n/, contains: [hljs.BACKSLASH_ESCAPE] },
                { className: "string", begin: /[&^]?'/, end: /'/, illegal: /\n/, contains: [hljs.BACKSLASH_ESCAPE] },
                hljs.C_NUMBER_MODE,
                { className: "meta", begin: /@[a-z_]+/ },
                { className: "variable", begin: /[$%][A-Za-z_][A-Za-z0-9_/]*/ },
                { className: "title", begin: /\bBackend[A-Za-z0-9]+/ },
                { beginKeywords: "func", end: /\(/, excludeEnd: true, contains: [hljs.UNDERSCORE_TITLE_MODE] },
            ],
        };
    });
    document.querySelectorAll("code.language-gdscript").forEach(function (block) {
        hljs.highlightBlock(block);
    });
})();

// Long names in tables may break where a reader would break them: after a slash or an underscore, and before a capital.
(function () {
    "use strict";
    document.querySelectorAll("td code").forEach(function (code) {
        if (code.children.length > 0) {
            return;
        }
        if (code.textContent.length <= 14) {
            code.style.whiteSpace = "nowrap";
            return;
        }
        const pieces = code.textContent.split(/(?<=[/_=.:(])(?=\w)|(?<=[a-z])(?=[A-Z])/);
        code.textContent = "";
        pieces.forEach(function (piece, index) {
            if (index > 0) {
                code.appendChild(document.createElement("wbr"));
            }
            code.appendChild(document.createTextNode(piece));
        });
    });
})();
