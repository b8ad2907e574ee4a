package veca.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.fail

/** The golden vectors: what veca-edge does, in `vectors.json` and the arrays that it names. */
object Vectors {
    private val index by lazy { JSONObject(String(resource("vectors.json"), Charsets.UTF_8)) }

    fun cases(name: String): List<JSONObject> =
        index.getJSONArray(name).let { all -> List(all.length()) { all.getJSONObject(it) } }

    fun section(name: String): JSONObject = index.getJSONObject(name)

    fun bytes(array: JSONObject): ByteArray = resource(array.getString("file"))

    fun floats(array: JSONObject): FloatArray =
        values(array).asFloatBuffer().let { FloatArray(it.remaining()).also(it::get) }

    /** Labels of either type, with -1 for no class. */
    fun labels(array: JSONObject): IntArray = when (array.getString("type")) {
        "u8" -> bytes(array).map { (it.toInt() and 0xff).let { label -> if (label == 255) -1 else label } }.toIntArray()
        else -> values(array).asIntBuffer().let { IntArray(it.remaining()).also(it::get) }
    }

    private fun values(array: JSONObject) = ByteBuffer.wrap(bytes(array)).order(ByteOrder.LITTLE_ENDIAN)

    private fun resource(name: String): ByteArray =
        requireNotNull(javaClass.getResourceAsStream("/golden/$name")) { "no vector $name" }.use { it.readBytes() }
}

fun JSONArray.ints(): List<Int> = List(length()) { getInt(it) }

fun JSONArray.doubles(): List<Double> = List(length()) { getDouble(it) }

/** Height and width. */
fun JSONObject.size(key: String): Size = getJSONArray(key).ints().let { (height, width) -> Size(width, height) }

fun JSONObject.box(key: String): Box =
    getJSONArray(key).ints().let { (left, top, width, height) -> Box(left, top, width, height) }

fun JSONObject.preprocessing(
    interpolation: Interpolation = Interpolation.of(getString("interpolation")),
) = Preprocessing(
    Resize.of(getString("resize")),
    getDouble("cropRatio"),
    interpolation,
    getJSONArray("padding").ints(),
)

fun assertPixels(case: JSONObject, found: ByteArray) {
    val expected = Vectors.bytes(case.getJSONObject("expected"))
    val tolerance = case.getInt("tolerance")
    assertEquals(expected.size, found.size)
    val worst = expected.indices.maxBy { abs((expected[it].toInt() and 0xff) - (found[it].toInt() and 0xff)) }
    if (abs((expected[worst].toInt() and 0xff) - (found[worst].toInt() and 0xff)) > tolerance) {
        fail("byte $worst is ${found[worst].toInt() and 0xff}, not ${expected[worst].toInt() and 0xff}: $case")
    }
}

fun assertValues(expected: FloatArray, found: FloatArray, tolerance: Double, about: Any) {
    assertEquals(expected.size, found.size)
    for (i in expected.indices) {
        assertEquals("value $i of $about", expected[i].toDouble(), found[i].toDouble(), tolerance)
    }
}
