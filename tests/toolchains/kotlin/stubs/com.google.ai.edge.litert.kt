// A stand-in for LiteRT: signatures after its Kotlin sources, while frames are run by LiteRT in the Python process that
// the system property `veca.executor` names; a line of JSON describes what follows, both ways.
package com.google.ai.edge.litert

import android.content.res.AssetManager
import java.io.DataInputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONArray
import org.json.JSONObject

class LiteRtException(message: String) : Exception(message)

enum class Accelerator(val value: Int) { NONE(0), CPU(1), GPU(2), NPU(3) }

abstract class JniHandle internal constructor() : AutoCloseable {
    private var destroyed = false

    protected fun assertNotDestroyed() {
        if (destroyed) throw IllegalStateException("The handle has been destroyed.")
    }

    protected abstract fun destroy()

    final override fun close() {
        if (!destroyed) destroy()
        destroyed = true
    }
}

class TensorBuffer internal constructor(internal val signature: String?, internal val name: String) : JniHandle() {
    internal var bytes = ByteArray(0)

    fun writeInt8(data: ByteArray) {
        assertNotDestroyed()
        bytes = data.copyOf()
    }

    fun readFloat(): FloatArray = FloatArray(bytes.size / 4).also { values().asFloatBuffer().get(it) }

    fun readInt(): IntArray = IntArray(bytes.size / 4).also { values().asIntBuffer().get(it) }

    private fun values(): ByteBuffer {
        assertNotDestroyed()
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
    }

    override fun destroy() {
        bytes = ByteArray(0)
    }
}

class CompiledModel private constructor(private val process: Process) : JniHandle() {
    data class CpuOptions(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    )

    class Options(vararg val accelerators: Accelerator) {
        var cpuOptions: CpuOptions? = null
    }

    private val replies = DataInputStream(process.inputStream)
    private val known: JSONObject = JSONObject(line())

    fun createInputBuffer(inputName: String, signature: String? = null): TensorBuffer = buffer(signature, "inputs", inputName)

    fun createOutputBuffer(outputName: String, signature: String? = null): TensorBuffer =
        buffer(signature, "outputs", outputName)

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String? = null) {
        assertNotDestroyed()
        for ((name, tensor) in inputs + outputs) {
            if (tensor.signature != signature || tensor.name != name) throw LiteRtException("a buffer of another tensor: $name")
        }
        val image = inputs.getValue("image").bytes
        process.outputStream.write("$signature ${image.size}\n".toByteArray())
        process.outputStream.write(image)
        process.outputStream.flush()
        val found = JSONArray(line())
        for (i in 0 until found.length()) {
            val output = found.getJSONObject(i)
            val bytes = ByteArray(output.getInt("bytes"))
            replies.readFully(bytes)
            outputs[output.getString("name")]?.bytes = bytes
        }
    }

    override fun destroy() {
        process.outputStream.close()
        process.waitFor()
    }

    private fun buffer(signature: String?, kind: String, name: String): TensorBuffer {
        assertNotDestroyed()
        val found = known.optJSONObject(signature ?: "") ?: throw LiteRtException("no signature $signature in ${known.names()}")
        if (name !in names(found.getJSONArray(kind))) throw LiteRtException("$signature has no $kind $name")
        return TensorBuffer(signature, name)
    }

    private fun names(listed: JSONArray) = List(listed.length()) { listed.getString(it) }

    private fun line(): String {
        val made = StringBuilder()
        while (true) {
            val byte = replies.read()
            if (byte < 0) throw LiteRtException("the executor ended")
            if (byte == '\n'.code) return made.toString()
            made.append(byte.toChar())
        }
    }

    companion object {
        @JvmStatic
        fun create(assetManager: AssetManager, assetName: String, options: Options): CompiledModel =
            create(File(assetManager.folder, assetName).path, options)

        @JvmStatic
        fun create(filePath: String, options: Options): CompiledModel {
            val file = File(filePath)
            if (!file.exists()) throw LiteRtException("no file $filePath")
            if (Accelerator.CPU !in options.accelerators) throw LiteRtException("Some ops are not accelerated.")
            val command = System.getProperty("veca.executor").split(' ') + file.path
            return CompiledModel(ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start())
        }
    }
}
