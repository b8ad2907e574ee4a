// Stand-ins for Android: the part of its public interface that the project uses, after Android's documentation.
package android

object Manifest {
    object permission {
        const val CAMERA = "android.permission.CAMERA"
    }
}
