package android.content

import android.content.res.AssetManager
import java.io.File
import java.util.concurrent.Executor

/** Its files are those of a folder: `cache`, `files` and `assets` in it. */
open class Context(private val folder: File) {
    open val cacheDir: File get() = File(folder, "cache").apply { mkdirs() }
    open val filesDir: File get() = File(folder, "files").apply { mkdirs() }
    open val assets: AssetManager get() = AssetManager(File(folder, "assets"))
    open val applicationContext: Context get() = this
    open val mainExecutor: Executor get() = Executor { it.run() }

    open fun getExternalFilesDir(type: String?): File? = File(folder, type ?: "external").apply { mkdirs() }

    open fun checkSelfPermission(permission: String): Int = 0

    open fun <T> getSystemService(serviceClass: Class<T>): T = serviceClass.getDeclaredConstructor().newInstance()
}
