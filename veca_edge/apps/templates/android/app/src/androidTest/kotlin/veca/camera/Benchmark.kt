package veca.camera

import android.os.Build
import android.os.Bundle
import androidx.test.platform.app.InstrumentationRegistry
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer
import java.io.File
import java.security.MessageDigest
import java.util.Locale
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Test

/**
 * What `veca-edge profile --device adb` starts, in a fresh process for every round: it measures the file
 * `files/veca_edge/model.tflite` and leaves every call's time in `files/veca_edge/benchmark.json`.
 */
class Benchmark {
    private val folder = File(InstrumentationRegistry.getInstrumentation().targetContext.filesDir, "veca_edge")

    @Test
    fun measure() {
        val arguments = InstrumentationRegistry.getArguments()
        // Without them this is a run of all tests, and there is nothing to measure.
        val signature = arguments.getString("signature") ?: return
        val accelerator = asked(arguments, "accelerator")
        val threads = asked(arguments, "threads").toInt()
        val model = File(folder, "model.tflite")
        val result = JSONObject()
            .put("schema", 1)
            .put("model_sha256", sha256(model))
            .put("device", device())
            .put("runtime", BuildConfig.LITERT)
            .put("signature", signature)
            .put("accelerator", accelerator)
            .put("threads", threads)
        val samples = JSONArray()
        try {
            val options = CompiledModel.Options(Accelerator.valueOf(accelerator.uppercase(Locale.ROOT)))
            if (accelerator == "cpu") options.cpuOptions = CompiledModel.CpuOptions(threads)
            val before = memory("VmRSS")
            val start = System.nanoTime()
            CompiledModel.create(model.path, options).use { compiled ->
                // With one accelerator alone, what it does not take is an error of LiteRT's, not left to the CPU.
                val calls = Calls(compiled, signature)
                result.put("load_ns", System.nanoTime() - start)
                result.put("first_ns", calls.time())
                repeatFor(asked(arguments, "warmup_seconds").toDouble()) { calls.time() }
                calls.steady(arguments, samples)
                result.put("memory_bytes", memory("VmHWM") - before)
                calls.close()
            }
            result.put("samples_ns", samples).put("error", "")
        } catch (error: Exception) {
            result.put("load_ns", JSONObject.NULL).put("first_ns", JSONObject.NULL).put("memory_bytes", JSONObject.NULL)
            result.put("samples_ns", JSONArray()).put("error", error.toString().take(400))
        }
        val aside = File(folder, "benchmark.json.part")
        aside.writeText(result.toString())
        check(aside.renameTo(File(folder, "benchmark.json"))) { "$aside can't be renamed" }
    }

    /** Calls of one signature, with the outputs read as an app reads them. */
    private class Calls(private val model: CompiledModel, private val signature: String) {
        private val image = model.createInputBuffer("image", signature)
        private val inputs = mapOf("image" to image)
        private val outputs: Map<String, TensorBuffer> =
            veca.core.Bundle.declared.outputs.associateWith { model.createOutputBuffer(it, signature) }

        init {
            val size = veca.core.Bundle.declared.input
            image.writeInt8(ByteArray(size.width * size.height * 3) { (it * 31 % 256).toByte() })
        }

        fun time(): Long {
            val start = System.nanoTime()
            model.run(inputs, outputs, signature)
            for ((name, output) in outputs) if (name == "segmentation") output.readInt() else output.readFloat()
            return System.nanoTime() - start
        }

        fun steady(arguments: Bundle, samples: JSONArray) {
            val seconds = asked(arguments, "seconds").toDouble()
            val least = asked(arguments, "samples").toInt()
            val most = asked(arguments, "most_seconds").toDouble()
            val start = System.nanoTime()
            while (true) {
                samples.put(time())
                val passed = (System.nanoTime() - start) / 1e9
                if (passed >= most || passed >= seconds && samples.length() >= least) return
            }
        }

        fun close() {
            image.close()
            outputs.values.forEach { it.close() }
        }
    }

    private fun device() = JSONObject()
        .put("manufacturer", Build.MANUFACTURER)
        .put("model", Build.MODEL)
        .put("soc", if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) Build.SOC_MODEL else "")
        .put("android", Build.VERSION.RELEASE)
        .put("api", Build.VERSION.SDK_INT)
        .put("abi", Build.SUPPORTED_ABIS[0])

    private fun repeatFor(seconds: Double, action: () -> Unit) {
        val end = System.nanoTime() + (seconds * 1e9).toLong()
        while (System.nanoTime() < end) action()
    }

    private fun sha256(file: File): String {
        val digest = MessageDigest.getInstance("SHA-256")
        file.inputStream().use { input ->
            val part = ByteArray(1 shl 20)
            while (true) {
                val count = input.read(part)
                if (count < 0) break
                digest.update(part, 0, count)
            }
        }
        return digest.digest().joinToString("") { String.format(Locale.ROOT, "%02x", it) }
    }

    /** Bytes, of a line in kB of this process's status. */
    private fun memory(name: String): Long =
        File("/proc/self/status").readLines().first { it.startsWith("$name:") }.filter { it.isDigit() }.toLong() * 1024
}

private fun asked(arguments: Bundle, name: String): String =
    requireNotNull(arguments.getString(name)) { "the argument $name is missing" }
