package veca.core

import java.io.InputStream
import java.io.InputStreamReader
import java.util.Properties

/** A core count of the model: a signature of its file. */
data class Variant(val coreCount: Int, val signature: String)

/** What can be shown of a frame, with the output that each needs; `key` is what bundles say. */
enum class Show(val key: String, val output: String) {
    CLASSES("classes", "logits"),
    SEGMENTATION("segmentation", "segmentation"),
    DEPTH("depth", "depth"),
    PCA("pca", "dense"),
}

/**
 * What this project has of its bundle. The values stand in `veca.properties`, the one file that veca-edge wrote for
 * this app; its text is escaped there, so that labels may hold anything.
 *
 * @property input size of the model's image
 * @property grid columns and rows of its patches
 * @property maps columns and rows of `segmentation` and `depth`
 * @property width values in a feature
 * @property labels of the classes in `logits`
 * @property maskLabels of the classes in `segmentation`
 * @property palette their colours, `0xRRGGBB`
 */
class Bundle(properties: Properties) {
    private val facts = properties.stringPropertyNames().associateWith { properties.getProperty(it) }

    val appName = text("app.name")
    val modelFile = text("model.file")
    val digest = text("model.sha256")
    val precision = text("model.precision")
    val outputs = list("model.outputs")
    val width = number("model.width")
    val input = size("model.input")
    val grid = size("model.grid")
    val maps = size("model.maps")
    val variants = list("variants").map { Variant(it.toInt(), text("variant.$it.signature")) }
    val preprocessing = Preprocessing(
        Resize.of(text("preprocessing.resize")),
        text("preprocessing.cropRatio").toDouble(),
        Interpolation.of(text("preprocessing.interpolation")),
        list("preprocessing.padding").map { it.toInt() },
    )
    val labels = texts("label")
    val maskLabels = texts("maskLabel")
    val palette = list("palette").map { it.toInt(16) }

    val coreCounts: List<Int> get() = variants.map { it.coreCount }

    /** What can be shown: what the tasks say, else the patch features. */
    val shows: List<Show>
        get() {
            val possible = Show.entries.filter { it.output in outputs }
            return possible.filter { it != Show.PCA }.ifEmpty { possible }
        }

    fun variant(coreCount: Int): Variant =
        requireNotNull(variants.find { it.coreCount == coreCount }) { "there are no $coreCount cores, but $coreCounts" }

    private fun text(key: String): String = requireNotNull(facts[key]) { "veca.properties does not say '$key'" }

    private fun number(key: String): Int = text(key).toInt()

    private fun list(key: String): List<String> = text(key).split(',').filter { it.isNotEmpty() }

    private fun size(key: String): Size = Size(number("$key.width"), number("$key.height"))

    private fun texts(key: String): List<String> =
        generateSequence(0) { it + 1 }.map { facts["$key.$it"] }.takeWhile { it != null }.filterNotNull().toList()

    companion object {
        /** The bundle of this project. */
        val declared: Bundle by lazy {
            val file = Bundle::class.java.getResourceAsStream("/veca.properties")
            requireNotNull(file) { "veca.properties is missing" }.use(::read)
        }

        fun read(file: InputStream): Bundle =
            Bundle(Properties().apply { load(InputStreamReader(file, Charsets.ISO_8859_1)) })
    }
}
