package veca.core

import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Test

/** `veca.properties` says what the generator was given, whatever characters names and labels have. */
class BundleTest {
    @Test
    fun valuesAreThoseOfTheBundle() {
        val text = requireNotNull(javaClass.getResourceAsStream("/golden/bundle.json")).use { it.readBytes() }
        val said = JSONObject(String(text, Charsets.UTF_8))
        val bundle = Bundle.declared
        assertEquals(said.getString("name"), bundle.appName)
        assertEquals(said.getString("sha256"), bundle.digest)
        assertEquals(strings(said, "outputs"), bundle.outputs)
        assertEquals(strings(said, "labels"), bundle.labels)
        assertEquals(strings(said, "maskLabels"), bundle.maskLabels)
        assertEquals(strings(said, "palette"), bundle.palette.map { String.format("#%06x", it) })
        val signatures = said.getJSONObject("signatures")
        assertEquals(signatures.length(), bundle.variants.size)
        for (variant in bundle.variants) assertEquals(signatures.getString("${variant.coreCount}"), variant.signature)
        assertEquals(Bundle.declared.coreCounts.sorted(), bundle.coreCounts)
        assertEquals(said.getJSONObject("preprocessing").preprocessing(), bundle.preprocessing)
    }

    private fun strings(said: JSONObject, key: String): List<String> =
        said.getJSONArray(key).let { all -> List(all.length()) { all.getString(it) } }
}
